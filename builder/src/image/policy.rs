//! Budgets and rules for images: `--policy FILE`.
//!
//! ```toml
//! warn = false                              # warn instead of failing
//! max-size = "300MB"                        # all compressed layers
//! max-layer-size = "200MB"
//! forbid = ["root/.cache/**", "**/*.pyc"]   # paths that must not be there
//! max-duplicates = "10MB"                   # files that ship more than once
//! min-isolation = "namespaces"              # how steps are kept apart at least
//! forbid-packages = ["pkg:npm/left-pad@*"]  # packages by their URLs; * is anything
//! forbid-licenses = ["AGPL-*"]              # unless another licence can be chosen
//! ```
//!
//! Rules about sources are in [`super::source_rule`].

use std::collections::HashSet;
use std::path::Path;

use indicatif::DecimalBytes;
use kiln_attest::PackageRules;
use kiln_engine::{EventSink, Image, ImageOptions, OutputEntry, Solved};
use kiln_graph::pattern::matches_deep;
use kiln_graph::{Node, Target};
use serde::Deserialize;

use super::source_rule::{Decision, SourceName, SourceRule, SourceRules};
use crate::{Error, Isolation, IsolationChoice, file_text};

/// What images must keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Whether it only warns.
    #[serde(default)]
    pub warn: bool,
    #[serde(default, deserialize_with = "size", alias = "max_size")]
    max_size: Option<u64>,
    #[serde(default, deserialize_with = "size", alias = "max_layer_size")]
    max_layer_size: Option<u64>,
    #[serde(default, deserialize_with = "size", alias = "max_duplicates")]
    max_duplicates: Option<u64>,
    #[serde(default)]
    forbid: Vec<String>,
    #[serde(default)]
    min_isolation: Option<Isolation>,
    #[serde(default)]
    forbid_packages: Vec<String>,
    #[serde(default)]
    forbid_licenses: Vec<String>,
    #[serde(default)]
    sources: Vec<SourceRule>,
    #[serde(default)]
    unmatched_sources: Decision,
    #[serde(default)]
    tests: Vec<PolicyTest>,
    /// The rules about sources, with the paths of keys.
    #[serde(skip)]
    source_rules: SourceRules,
}

/// A case that a policy gives itself: `[[tests]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyTest {
    source: String,
    expect: Decision,
    /// Whether the source is taken to be in the lock.
    #[serde(default)]
    pinned: bool,
}

impl PolicyTest {
    /// What is wrong, in words; nothing when the policy decides as expected.
    #[must_use]
    pub fn failure(&self, rules: &SourceRules) -> Option<String> {
        let source = SourceName::parse(&self.source, self.pinned);
        match (rules.check(&source), self.expect) {
            (Ok(_), Decision::Deny) => Some(format!("{source} is allowed, and should be denied")),
            (Err(rule), Decision::Allow) => Some(format!("{source} should be allowed, but {rule}")),
            _ => None,
        }
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = file_text(path)?;
        let wrong = |reason: String| Error::Usage(format!("{}: {reason}", path.display()));
        let mut policy: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let rules = std::mem::take(&mut policy.sources);
        let rules = SourceRules::new(rules, policy.unmatched_sources, policy.warn, directory);
        policy.source_rules = rules.map_err(wrong)?;
        Ok(policy)
    }

    /// The rules about what builds take from elsewhere.
    #[must_use]
    pub fn sources(&self) -> &SourceRules {
        &self.source_rules
    }

    /// The cases that the policy gives itself.
    #[must_use]
    pub fn tests(&self) -> &[PolicyTest] {
        &self.tests
    }

    /// The isolation that steps are to have, when the user chose this one.
    ///
    /// # Errors
    /// When the user chose a weaker one than this demands.
    pub fn isolation(&self, choice: IsolationChoice) -> Result<IsolationChoice, Error> {
        match (self.min_isolation, choice) {
            (Some(Isolation::Namespaces), IsolationChoice::Auto) => {
                Ok(IsolationChoice::Only(Isolation::Namespaces))
            }
            (Some(least), IsolationChoice::Only(chosen)) if chosen < least => {
                let (chosen, least) = (chosen.name(), least.name());
                let text = format!("isolation {chosen}: the policy demands {least} at least");
                Err(Error::Usage(text))
            }
            _ => Ok(choice),
        }
    }

    /// What an image breaks, in words.
    ///
    /// # Errors
    /// When its files can't be read.
    pub fn violations(
        &self,
        solved: &Solved,
        target: &Target,
        image: &Image,
        events: &dyn EventSink,
    ) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let sizes = image.layer_sizes();
        over(&mut found, "the image", sizes.iter().sum(), self.max_size);
        let largest = sizes.iter().max().copied().unwrap_or(0);
        over(&mut found, "a layer", largest, self.max_layer_size);
        found.extend(self.package_violations(solved, target, events)?);
        if self.forbid.is_empty() && self.max_duplicates.is_none() {
            return Ok(found);
        }
        let files = solved.root_files(target, events)?;
        for pattern in &self.forbid {
            found.extend(forbidden(pattern, &files));
        }
        over(
            &mut found,
            "files that ship more than once",
            duplicates(&files),
            self.max_duplicates,
        );
        Ok(found)
    }
}

impl Policy {
    /// What the packages of an image break. Packages that can't be read break a rule about packages.
    fn package_violations(
        &self,
        solved: &Solved,
        target: &Target,
        events: &dyn EventSink,
    ) -> Result<Vec<String>, Error> {
        let rules = PackageRules {
            packages: self.forbid_packages.clone(),
            licenses: self.forbid_licenses.clone(),
        };
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let options = ImageOptions::default();
        let (subject, inventory) = solved.packages(target, None, &options, "", events)?;
        let unread = inventory.warnings.iter();
        let unread = unread.map(|warning| {
            format!(
                "packages can't be checked: {}: {}",
                warning.path, warning.reason
            )
        });
        let broken = rules.violations(&subject, &inventory);
        Ok(broken.into_iter().chain(unread).collect())
    }
}

impl From<kiln_frontend_toml::Policy> for Policy {
    fn from(policy: kiln_frontend_toml::Policy) -> Self {
        Self {
            warn: policy.warn,
            max_size: policy.max_size,
            max_layer_size: policy.max_layer_size,
            max_duplicates: policy.max_duplicates,
            forbid: policy.forbid,
            ..Self::default()
        }
    }
}

/// A size as people write it.
fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = kiln_graph::parse_size(&text);
    size.map(Some).map_err(serde::de::Error::custom)
}

fn over(found: &mut Vec<String>, what: &str, bytes: u64, limit: Option<u64>) {
    if let Some(limit) = limit.filter(|limit| bytes > *limit) {
        let (size, limit) = (DecimalBytes(bytes), DecimalBytes(limit));
        found.push(format!("{what}: {size} is over the limit of {limit}"));
    }
}

fn forbidden(pattern: &str, files: &[OutputEntry]) -> Option<String> {
    let trimmed = pattern.trim_start_matches('/');
    let is = |file: &&OutputEntry| matches_deep(trimmed, file.0.path.relative_bytes());
    let mut all = files.iter().filter(is).map(|file| file.0.path.to_string());
    let first = all.next()?;
    let more = all.count();
    Some(match more {
        0 => format!("{first} is forbidden ({pattern})"),
        more => format!("{first} and {more} more are forbidden ({pattern})"),
    })
}

fn duplicates(files: &[OutputEntry]) -> u64 {
    let mut seen = HashSet::new();
    let again = files.iter().filter_map(|(entry, _)| match &entry.node {
        Node::File { size, digest } if !seen.insert(*digest) => Some(*size),
        _ => None,
    });
    again.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_of_isolation() {
        let policy = |text: &str| toml::from_str::<Policy>(text).unwrap();
        let floor = policy("min-isolation = 'namespaces'");
        let chosen = |policy: &Policy, choice: &str| policy.isolation(choice.parse().unwrap()).ok();
        let namespaces = Some(IsolationChoice::Only(Isolation::Namespaces));
        assert_eq!(chosen(&floor, "auto"), namespaces);
        assert_eq!(chosen(&floor, "namespaces"), namespaces);
        assert_eq!(chosen(&floor, "chroot"), None);
        let auto = Some(IsolationChoice::Auto);
        assert_eq!(chosen(&policy(""), "auto"), auto);
        assert_eq!(chosen(&policy("min-isolation = 'chroot'"), "auto"), auto);
        assert!(toml::from_str::<Policy>("min-isolation = 'vm'").is_err());
    }
}
