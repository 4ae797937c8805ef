//! `{{ params.NAME }}` in texts: names, and texts in quotes for braces that are to stay.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kiln_graph::Platform;

use crate::limits::{MAX_FILLED, MAX_PRODUCED};
use crate::suggest::did_you_mean;
use crate::value::Values;

/// Why a name can't be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled {
    /// In words.
    Wrong(String),
    /// It stands for the output of a step that hasn't run yet.
    Waits,
}

impl From<String> for Unfilled {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

impl From<&str> for Unfilled {
    fn from(message: &str) -> Self {
        Self::Wrong(message.to_owned())
    }
}

/// What names stand for.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'a> {
    texts: BTreeMap<String, String>,
    values: Rc<Values<'a>>,
    platform: Platform,
    /// Bytes that were produced, in this scope and those made of it.
    produced: Rc<Cell<usize>>,
}

impl<'a> Scope<'a> {
    /// The names that every step has: parameters, what is built for, what builds.
    pub(crate) fn new(
        params: &BTreeMap<String, String>,
        platform: &Platform,
        build_platform: &Platform,
        values: Rc<Values<'a>>,
    ) -> Self {
        let mut texts: BTreeMap<String, String> = params
            .iter()
            .map(|(name, value)| (format!("params.{name}"), value.clone()))
            .collect();
        for (prefix, platform) in [("platform", platform), ("build", build_platform)] {
            texts.insert(format!("{prefix}.os"), platform.os.clone());
            texts.insert(format!("{prefix}.arch"), platform.architecture.clone());
            texts.insert(format!("{prefix}.variant"), platform.variant.clone());
        }
        Self {
            texts,
            values,
            platform: platform.clone(),
            produced: Rc::default(),
        }
    }

    /// This scope with the values of one combination of a matrix.
    pub(crate) fn with_matrix(&self, chosen: &[(String, String)]) -> Self {
        let mut scope = self.clone();
        for (name, value) in chosen {
            scope.texts.insert(format!("matrix.{name}"), value.clone());
        }
        scope
    }

    /// This scope with the name of the image whose texts are filled in.
    pub(crate) fn with_image(&self, name: &str) -> Self {
        let mut scope = self.clone();
        scope.texts.insert("image.name".to_owned(), name.to_owned());
        scope
    }

    /// This scope without the names that begin so.
    pub(crate) fn without(mut self, start: &str) -> Self {
        self.texts.retain(|name, _| !name.starts_with(start));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Result<String, Unfilled> {
        if let Some(text) = self.texts.get(name) {
            return Ok(text.clone());
        }
        let written = self.values.get(name, &self.platform);
        written.unwrap_or_else(|| Err(self.unknown(name).into()))
    }

    fn unknown(&self, name: &str) -> String {
        let known = self.texts.keys().map(String::as_str);
        let hint = match did_you_mean(name, known) {
            none if none.is_empty() => {
                let known: Vec<&str> = self.texts.keys().map(String::as_str).collect();
                format!("; known are {}", known.join(", "))
            }
            hint => hint,
        };
        format!("'{name}' is not known here{hint}")
    }

    /// A text with the names in it replaced.
    pub(crate) fn fill(&self, text: &str) -> Result<String, Unfilled> {
        let mut out = String::new();
        let mut waits = false;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let (name, after) = after.split_once("}}").ok_or(
                "a '{{' has no '}}' after it; braces that are to stay are written {{ '{{' }}",
            )?;
            let name = name.trim();
            if out.len() > MAX_FILLED {
                return Err(format!("the text becomes longer than {MAX_FILLED} bytes").into());
            }
            match unquoted(name).map_or_else(|| self.braced(name), |text| Ok(text.to_owned())) {
                Ok(text) => out.push_str(&text),
                // The others of the text are asked for as well, so that all run at once.
                Err(Unfilled::Waits) => waits = true,
                Err(wrong) => return Err(wrong),
            }
            rest = after;
        }
        self.count(out.len() + rest.len())?;
        match waits {
            true => Err(Unfilled::Waits),
            false => Ok(out + rest),
        }
    }

    fn count(&self, bytes: usize) -> Result<(), Unfilled> {
        let all = self.produced.get().saturating_add(bytes);
        self.produced.set(all);
        match all > MAX_PRODUCED {
            true => Err(format!("the file's texts become longer than {MAX_PRODUCED} bytes").into()),
            false => Ok(()),
        }
    }

    fn braced(&self, name: &str) -> Result<String, Unfilled> {
        let text = "; braces that are to stay are written {{ '{{' }}";
        self.get(name).map_err(|error| match error {
            Unfilled::Wrong(message) if !name.contains('.') || name.starts_with('.') => {
                (message + text).into()
            }
            other => other,
        })
    }
}

/// What is between quotes.
pub(crate) fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    })
}

/// A file with nothing in it.
#[cfg(test)]
pub(crate) fn empty_file() -> crate::BuildFile {
    let none = |_: &crate::Included<'_>| Err(String::new());
    crate::parse("kiln.toml", "version = 1\n", &none).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_nothing_else() {
        let params = [("a".to_owned(), "1".to_owned())].into();
        let (arm, amd) = (
            Platform::new("linux", "arm64", ""),
            Platform::new("linux", "amd64", ""),
        );
        let (file, known) = (empty_file(), crate::ValueTable::new());
        let values = Rc::new(Values::new(&file, &known));
        let scope = Scope::new(&params, &arm, &amd, values);
        let scope = scope.with_matrix(&[("v".to_owned(), "x".to_owned())]);
        let cases = [
            ("plain", Ok("plain")),
            ("{{ params.a }}-{{matrix.v}}", Ok("1-x")),
            ("{{ platform.arch }} {{build.arch}}", Ok("arm64 amd64")),
            ("${A} $(b) {c} }}", Ok("${A} $(b) {c} }}")),
            ("{{ '{{' }}.Id}}", Ok("{{.Id}}")),
            (r#"{{ "it's" }}"#, Ok("it's")),
            (
                "{{ params.a",
                Err("a '{{' has no '}}' after it; braces that are to stay are written {{ '{{' }}"),
            ),
            (
                "{{ param.a }}",
                Err("'param.a' is not known here (did you mean 'params.a'?)"),
            ),
        ];
        for (text, want) in cases {
            let got = scope.fill(text);
            assert_eq!(
                got.as_deref(),
                want.map_err(Unfilled::from).as_ref().map(|text| *text),
                "{text}"
            );
        }
        for text in ["{{ }}", "{{.Id}}", "{{ 'a' 'b' }}"] {
            let error = format!("{:?}", scope.fill(text).unwrap_err());
            assert!(error.contains("{{ '{{' }}"), "{error}");
        }
    }
}
