//! `{{ params.NAME }}` in texts: names and nothing else.

use std::collections::BTreeMap;

use kiln_graph::Platform;

use crate::suggest::did_you_mean;

/// What names stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    values: BTreeMap<String, String>,
}

impl Scope {
    pub(crate) fn new(params: &BTreeMap<String, String>, platform: &Platform) -> Self {
        let mut values: BTreeMap<String, String> = params
            .iter()
            .map(|(name, value)| (format!("params.{name}"), value.clone()))
            .collect();
        values.insert("platform.os".to_owned(), platform.os.clone());
        values.insert("platform.arch".to_owned(), platform.architecture.clone());
        values.insert("platform.variant".to_owned(), platform.variant.clone());
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
            None => {
                let hint = did_you_mean(name, self.values.keys().map(String::as_str));
                Err(format!("'{name}' is not known here{hint}"))
            }
        }
    }

    /// A text with the names in it replaced.
    pub(crate) fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let (name, after) = after
                .split_once("}}")
                .ok_or("a '{{' has no '}}' after it")?;
            out.push_str(self.get(name.trim())?);
            rest = after;
        }
        Ok(out + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_nothing_else() {
        let params = [("a".to_owned(), "1".to_owned())].into();
        let scope = Scope::new(&params, &Platform::new("linux", "amd64", ""));
        let scope = scope.with_matrix(&[("v".to_owned(), "x".to_owned())]);
        let cases = [
            ("plain", Ok("plain")),
            (
                "{{ params.a }}-{{matrix.v}}-{{ platform.arch }}",
                Ok("1-x-amd64"),
            ),
            ("${A} $(b) {c}", Ok("${A} $(b) {c}")),
            ("{{ params.a", Err("a '{{' has no '}}' after it")),
            (
                "{{ param.a }}",
                Err("'param.a' is not known here (did you mean 'params.a'?)"),
            ),
        ];
        for (text, want) in cases {
            let got = scope.fill(text);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }
}
