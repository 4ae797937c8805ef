//! Which rules are checked: the `check` directive, the build argument that overrides it, and
//! comments above single instructions.

use std::collections::BTreeSet;

use kiln_graph::parse_bool;

use crate::Rule;
use crate::ast::Dockerfile;

/// Which rules are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    /// Rules that are checked only when asked for by name.
    experimental: BTreeSet<String>,
    /// Whether warnings fail the build.
    pub(super) error: bool,
}

impl Checks {
    /// What a file or the build argument `BUILDKIT_DOCKERFILE_CHECK` says.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn of(file: &Dockerfile, argument: Option<&String>) -> Result<Self, String> {
        if let Some(text) = argument {
            let failed = |error| format!("failed to parse BUILDKIT_DOCKERFILE_CHECK: {error}");
            return Self::parse(text).map_err(failed);
        }
        let mut directives = file.directives.iter();
        let directive = directives.find(|directive| directive.name == "check");
        let text = directive.map_or("", |directive| first_word(&directive.value));
        Self::parse(text).map_err(|error| format!("failed to parse check options: {error}"))
    }

    /// `skip=A,B;error=true;experimental=all`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut checks = Self::default();
        if text.trim().is_empty() {
            return Ok(checks);
        }
        for part in text.trim().splitn(3, ';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(invalid(part));
            };
            let value = value.trim();
            match name.trim() {
                "skip" if value == "all" => checks.skip_all = true,
                "skip" => checks.skip = names(value),
                "experimental" if value == "all" => checks.experimental_all = true,
                "experimental" => checks.experimental = names(value),
                "error" => {
                    checks.error = parse_bool(value)
                        .ok_or_else(|| format!("failed to parse check option \"{part}\""))?;
                }
                name => return Err(invalid(name)),
            }
        }
        Ok(checks)
    }

    /// What holds for an instruction, when the comments above it say something.
    pub(super) fn with_comments(&self, comments: &[String]) -> Option<Self> {
        let mut directives = comments.iter().filter_map(|comment| {
            let (name, value) = comment.trim_start().split_once('=')?;
            let is_check = name.trim_end().eq_ignore_ascii_case("check");
            is_check.then(|| first_word(value.trim()))
        });
        let own = Self::parse(directives.next()?).ok()?;
        let mut all = self.clone();
        all.skip_all |= own.skip_all;
        all.experimental_all |= own.experimental_all;
        all.skip.extend(own.skip);
        all.experimental.extend(own.experimental);
        Some(all)
    }

    pub(super) fn skips(&self, rule: Rule) -> bool {
        match rule.is_experimental() {
            true => !self.experimental_all && !self.experimental.contains(rule.name()),
            false => self.skip_all || self.skip.contains(rule.name()),
        }
    }
}

fn invalid(option: &str) -> String {
    format!("invalid check option \"{option}\"; use skip=RULE,…, experimental=RULE,… or error=true")
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

fn names(text: &str) -> BTreeSet<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let checks =
            Checks::parse("skip=StageNameCasing, MaintainerDeprecated;error=true").unwrap();
        assert!(checks.error && checks.skips(Rule::MaintainerDeprecated));
        assert!(!checks.skips(Rule::UndefinedVar));
        assert!(checks.skips(Rule::InvalidDefinitionDescription));
        let comments = [
            "other".to_owned(),
            "check=skip=UndefinedVar;experimental=all".to_owned(),
        ];
        let own = checks.with_comments(&comments).unwrap();
        assert!(own.skips(Rule::UndefinedVar) && !own.skips(Rule::InvalidDefinitionDescription));
        assert_eq!(checks.with_comments(&["check=what".to_owned()]), None);
        for bad in ["skip", "skipp=all", "error=maybe", "skip=a;;"] {
            assert!(Checks::parse(bad).is_err(), "{bad}");
        }
    }
}
