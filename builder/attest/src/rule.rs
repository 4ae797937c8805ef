//! Rules about the packages of an image.

use spdx::Expression;

use crate::sbom::Subject;
use crate::{FoundPackage, Inventory};

/// Packages and licences that must not be in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageRules {
    /// Patterns of package URLs, in which `*` stands for anything: `pkg:npm/left-pad@*`.
    pub packages: Vec<String>,
    /// Patterns of licences: `AGPL-*`. A package that may also be had under another licence is
    /// allowed.
    pub licenses: Vec<String>,
}

impl PackageRules {
    /// Whether there is nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.licenses.is_empty()
    }

    /// What breaks them, in words: the package, the rule, and the step that brought it.
    #[must_use]
    pub fn violations(&self, subject: &Subject, inventory: &Inventory) -> Vec<String> {
        let broken = |found: &FoundPackage| {
            let rule = self.broken_by(found)?;
            Some(format!(
                "{} is forbidden ({rule}){}",
                found.purl,
                origin(subject, found)
            ))
        };
        inventory.packages.iter().filter_map(broken).collect()
    }

    fn broken_by(&self, found: &FoundPackage) -> Option<String> {
        let mut packages = self.packages.iter();
        if let Some(pattern) = packages.find(|pattern| matches_wildcard(pattern, &found.purl)) {
            return Some(pattern.clone());
        }
        let license = found.package.license.as_deref()?;
        (!self.allows(license)).then(|| format!("licence {license}"))
    }

    /// Whether a licence that is allowed can be chosen.
    fn allows(&self, license: &str) -> bool {
        let Ok(expression) = Expression::parse(license) else {
            return true;
        };
        expression.evaluate(|request| {
            let name = request.license.to_string();
            !self
                .licenses
                .iter()
                .any(|pattern| matches_wildcard(pattern, &name))
        })
    }
}

/// Where a package comes from, for people.
fn origin(subject: &Subject, found: &FoundPackage) -> String {
    let Some(layer) = subject.layers.get(found.layer) else {
        return String::new();
    };
    let step = layer.step.lines().next().unwrap_or_default();
    match &layer.location {
        Some(place) => format!(": it comes from {step} ({place})"),
        None if step.is_empty() => String::new(),
        None => format!(": it comes from {step}"),
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
#[must_use]
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sbom::SubjectLayer;
    use crate::{Ecosystem, Package};

    #[test]
    fn patterns() {
        let cases = [
            ("pkg:npm/a@*", "pkg:npm/a@1", true),
            ("pkg:npm/a@*", "pkg:npm/ab@1", false),
            ("*openssl*", "pkg:deb/debian/libopenssl@1", true),
            ("GPL-*-only", "GPL-2.0-only", true),
            ("GPL-*-only", "GPL-2.0-or-later", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*a", "a", false),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(matches_wildcard(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn licences_that_can_be_chosen() {
        let rules = PackageRules {
            packages: Vec::new(),
            licenses: vec!["AGPL-*".to_owned(), "LicenseRef-odd".to_owned()],
        };
        let cases = [
            ("MIT", true),
            ("AGPL-3.0-only", false),
            ("AGPL-3.0-only OR MIT", true),
            ("AGPL-3.0-only AND MIT", false),
            ("LicenseRef-odd", false),
            ("LicenseRef-other", true),
        ];
        for (license, want) in cases {
            assert_eq!(rules.allows(license), want, "{license}");
        }
    }

    #[test]
    fn violations_name_rule_and_step() {
        let package = Package::new(Ecosystem::Npm, "left-pad", "1");
        let inventory = Inventory {
            packages: vec![FoundPackage {
                purl: package.purl(None),
                package,
                layer: 0,
                paths: BTreeSet::new(),
            }],
            ..Inventory::default()
        };
        let subject = Subject {
            layers: vec![SubjectLayer {
                diff_id: None,
                step: "app[2] RUN npm ci".to_owned(),
                location: Some("Dockerfile:2".to_owned()),
            }],
            ..Subject::default()
        };
        let rules = PackageRules {
            packages: vec!["pkg:npm/left-pad@*".to_owned()],
            licenses: Vec::new(),
        };
        assert_eq!(
            rules.violations(&subject, &inventory),
            [
                "pkg:npm/left-pad@1 is forbidden (pkg:npm/left-pad@*): it comes from app[2] RUN npm ci (Dockerfile:2)"
            ]
        );
    }
}
