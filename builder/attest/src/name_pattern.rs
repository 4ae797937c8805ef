//! What names of signers must look like.

use regex::Regex;

use crate::{AttestError, matches_wildcard};

/// A pattern of names.
#[derive(Clone, Debug)]
pub struct NamePattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// `*` stands for anything.
    Wildcard(String),
    Expression(Regex),
}

impl NamePattern {
    /// A name, in which `*` stands for anything.
    #[must_use]
    pub fn wildcard(text: impl Into<String>) -> Self {
        Self(Kind::Wildcard(text.into()))
    }

    /// A regular expression, which fits any name that it is found in, as cosign has it: `^` and `$` are the ends.
    ///
    /// # Errors
    /// When it is none.
    pub fn expression(text: &str) -> Result<Self, AttestError> {
        let expression = Regex::new(text);
        let expression = expression.map_err(|error| AttestError::Pattern(error.to_string()))?;
        Ok(Self(Kind::Expression(expression)))
    }

    /// Whether a name fits. One that is empty is none.
    pub(crate) fn matches(&self, name: &str) -> bool {
        !name.is_empty()
            && match &self.0 {
                Kind::Wildcard(text) => matches_wildcard(text, name),
                Kind::Expression(expression) => expression.is_match(name),
            }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Wildcard(text) => text,
            Kind::Expression(expression) => expression.as_str(),
        }
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        let is_wildcard = |one: &Self| matches!(one.0, Kind::Wildcard(_));
        (is_wildcard(self), self.as_str()) == (is_wildcard(other), other.as_str())
    }
}

impl Eq for NamePattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds() {
        let expression = |text| NamePattern::expression(text).unwrap();
        let cases = [
            (NamePattern::wildcard("https://a/*"), "https://a/b", true),
            (NamePattern::wildcard("https://a/*"), "x https://a/b", false),
            (NamePattern::wildcard("a.c"), "abc", false),
            (NamePattern::wildcard("*"), "", false),
            (expression("a.c"), "xabcx", true),
            (expression("^a.c$"), "xabc", false),
            (expression(""), "", false),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(pattern.matches(name), want, "{pattern:?} {name}");
        }
        assert!(NamePattern::expression("(").is_err());
        assert_ne!(expression("a"), NamePattern::wildcard("a"));
        assert_eq!(expression("a"), expression("a"));
    }
}
