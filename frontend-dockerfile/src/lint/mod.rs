//! Collects the warnings of `docker build --check`.

mod checks;
mod syntax;

use kiln_graph::Location;

use crate::suggest::nearest;
use crate::{Diagnostic, Rule};
pub(crate) use checks::Checks;
pub(crate) use syntax::{check_parsed, check_stages};

/// What a warning is about.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) location: &'a Location,
    /// The comments above it, which may skip rules.
    pub(crate) comments: &'a [String],
}

impl<'a> At<'a> {
    /// Something whose comments don't count.
    pub(crate) fn only(location: &'a Location) -> Self {
        Self {
            location,
            comments: &[],
        }
    }
}

impl<'a> From<&'a crate::ast::Instruction> for At<'a> {
    fn from(instruction: &'a crate::ast::Instruction) -> Self {
        Self {
            location: &instruction.location,
            comments: &instruction.comments,
        }
    }
}

/// Collects warnings, in the order in which BuildKit finds them.
#[derive(Debug, Default)]
pub(crate) struct Linter {
    checks: Checks,
    found: Vec<Diagnostic>,
    /// While a file is compiled for another platform than the first, everything has been said.
    is_silent: bool,
}

impl Linter {
    pub(crate) fn new(checks: Checks) -> Self {
        Self {
            checks,
            ..Self::default()
        }
    }

    pub(crate) fn silence(&mut self) {
        self.is_silent = true;
    }

    /// The warnings found so far.
    pub(crate) fn found(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Whether the file wants warnings to fail the build.
    pub(crate) fn is_strict(&self) -> bool {
        self.checks.error
    }

    pub(crate) fn warn(&mut self, at: At<'_>, rule: Rule, message: String) {
        let skipped = || match self.checks.with_comments(at.comments) {
            Some(checks) => checks.skips(rule),
            None => self.checks.skips(rule),
        };
        if !self.is_silent && !skipped() {
            self.found.push(Diagnostic {
                rule,
                message,
                location: at.location.clone(),
            });
        }
    }

    /// A variable that isn't set; `known` are those that are.
    pub(crate) fn undefined<'k>(
        &mut self,
        at: At<'_>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let hint = nearest(name, known);
        let hint = hint
            .map(|name| format!(" (did you mean ${name}?)"))
            .unwrap_or_default();
        let message = format!("Usage of undefined variable '${name}'{hint}");
        self.warn(at, Rule::UndefinedVar, message);
    }

    /// An argument of FROM that isn't declared; `known` are those that are.
    pub(crate) fn undeclared<'k>(
        &mut self,
        at: At<'_>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let hint = crate::suggest::did_you_mean(name, known);
        let message = format!("FROM argument '{name}' is not declared{hint}");
        self.warn(at, Rule::UndefinedArgInFrom, message);
    }

    pub(crate) fn secret_name(&mut self, at: At<'_>, name: &str, keyword: &str) {
        if looks_secret(name) {
            let name = crate::quote::quote(name);
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name})");
            self.warn(at, Rule::SecretsUsedInArgOrEnv, message);
        }
    }

    pub(crate) fn legacy_pair(&mut self, at: At<'_>, keyword: &str) {
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        self.warn(at, Rule::LegacyKeyValueFormat, message);
    }

    pub(crate) fn shell_form(&mut self, at: At<'_>, keyword: &str) {
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        self.warn(at, Rule::JSONArgsRecommended, message);
    }

    /// An instruction that a later one overrides.
    pub(crate) fn overridden(&mut self, at: At<'_>, keyword: &str) {
        let message = format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        );
        self.warn(at, Rule::MultipleInstructionsDisallowed, message);
    }

    pub(crate) fn relative_workdir(&mut self, at: At<'_>, path: &str) {
        let path = crate::quote::quote(path);
        let message = format!(
            "Relative workdir {path} can have unexpected results if the base image changes"
        );
        self.warn(at, Rule::WorkdirRelativePath, message);
    }

    pub(crate) fn ignored(&mut self, at: At<'_>, source: &str, verb: &str) {
        let source = crate::quote::quote(source);
        let message =
            format!("Attempting to {verb} file {source} that is excluded by .dockerignore");
        self.warn(at, Rule::CopyIgnoredFile, message);
    }
}

/// Whether a variable's name says that its value is secret: one of its words does, and none says
/// that it is public, the name of a file or a version.
fn looks_secret(name: &str) -> bool {
    const PUBLIC: &[&str] = &["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(kiln_graph::address::CREDENTIAL_WORDS) && !has(PUBLIC)
}

#[cfg(test)]
mod tests {
    use super::looks_secret;

    #[test]
    fn names_of_secrets() {
        let secret = [
            "SECRET",
            "api_key",
            "GITHUB_TOKEN",
            "secret_MESSAGE",
            "AUTH",
            "MY_CREDENTIAL_X",
        ];
        for name in secret {
            assert!(looks_secret(name), "{name}");
        }
        let public = [
            "KEYRING",
            "PUBLIC_KEY",
            "PASSWORD_FILE",
            "TOKEN_VERSION",
            "SECRETS",
            "MONKEY",
        ];
        for name in public {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
