//! `{{ params.NAME }}` in texts: names, and texts in quotes for braces that are to stay.

use std::collections::BTreeMap;

use kiln_graph::Platform;

use crate::suggest::did_you_mean;

/// What names stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    values: BTreeMap<String, String>,
}

impl Scope {
    /// The names that every step has: parameters, what is built for, what builds.
    pub(crate) fn new(
        params: &BTreeMap<String, String>,
        platform: &Platform,
        build_platform: &Platform,
    ) -> Self {
        let mut values: BTreeMap<String, String> = params
            .iter()
            .map(|(name, value)| (format!("params.{name}"), value.clone()))
            .collect();
        for (prefix, platform) in [("platform", platform), ("build", build_platform)] {
            values.insert(format!("{prefix}.os"), platform.os.clone());
            values.insert(format!("{prefix}.arch"), platform.architecture.clone());
            values.insert(format!("{prefix}.variant"), platform.variant.clone());
        }
        Self { values }
    }

    /// This scope with the values of one combination of a matrix.
    pub(crate) fn with_matrix(&self, chosen: &[(String, String)]) -> Self {
        let mut scope = self.clone();
        for (name, value) in chosen {
            scope.values.insert(format!("matrix.{name}"), value.clone());
        }
        scope
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str, String> {
        match self.values.get(name) {
            Some(value) => Ok(value),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known = self.values.keys().map(String::as_str);
        let hint = match did_you_mean(name, known) {
            none if none.is_empty() => {
                let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
                format!("; known are {}", known.join(", "))
            }
            hint => hint,
        };
        format!("'{name}' is not known here{hint}")
    }

    /// A text with the names in it replaced.
    pub(crate) fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let (name, after) = after.split_once("}}").ok_or(
                "a '{{' has no '}}' after it; braces that are to stay are written {{ '{{' }}",
            )?;
            let name = name.trim();
            out.push_str(unquoted(name).map_or_else(|| self.braced(name), Ok)?);
            rest = after;
        }
        Ok(out + rest)
    }

    fn braced(&self, name: &str) -> Result<&str, String> {
        let text = "; braces that are to stay are written {{ '{{' }}";
        self.get(name).map_err(|message| match name.contains('.') {
            true if !name.starts_with('.') => message,
            _ => message + text,
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
        let scope = Scope::new(&params, &arm, &amd);
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
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
        for text in ["{{ }}", "{{.Id}}", "{{ 'a' 'b' }}"] {
            let error = scope.fill(text).unwrap_err();
            assert!(error.contains("{{ '{{' }}"), "{error}");
        }
    }
}
