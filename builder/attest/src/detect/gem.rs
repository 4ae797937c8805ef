//! Ruby's gems: the specifications that RubyGems writes, which are Ruby, but always in one form.

use std::collections::BTreeSet;

use super::Reading;
use crate::license;
use crate::{Ecosystem, Package};

pub(super) fn is_specification(path: &str) -> bool {
    path.ends_with(".gemspec") && path.contains("/specifications/")
}

pub(super) fn read(text: &str) -> Reading {
    let mut package = Package::new(Ecosystem::Gem, "", "");
    let mut licenses = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let Some((field, value)) = line
            .strip_prefix("s.")
            .and_then(|rest| rest.split_once('='))
        else {
            continue;
        };
        let mut words = quoted(value);
        match field.trim() {
            "name" => package.name = words.next().unwrap_or_default().to_owned(),
            "version" => package.version = words.next().unwrap_or_default().to_owned(),
            "license" | "licenses" => licenses.extend(words.filter_map(license::expression)),
            "authors" => package.supplier = words.next().map(str::to_owned),
            _ => {}
        }
    }
    if package.name.is_empty() || package.version.is_empty() {
        return Reading::problem("no gem name or no version");
    }
    package.license = license::joined(&licenses, "AND");
    Reading::packages(vec![package])
}

/// The texts between double quotes.
fn quoted(value: &str) -> impl Iterator<Item = &str> {
    value.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    #[test]
    fn specifications() {
        let text = "# stub: rack 3.0.8 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"3.0.8\"\n  s.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\n  s.authors = [\"A B\".freeze]\nend\n";
        let Some(Claim::Packages(packages)) = read(text).claim else {
            panic!()
        };
        assert_eq!(packages[0].purl(None), "pkg:gem/rack@3.0.8");
        assert_eq!(packages[0].license.as_deref(), Some("MIT AND Ruby"));
        assert_eq!(read("s.name = x").problems.len(), 1);
    }
}
