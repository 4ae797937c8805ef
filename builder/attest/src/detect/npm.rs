//! Packages of npm: the `package.json` of a package's own root.
//!
//! Directly in a `node_modules` each directory is a package. Elsewhere a `package.json` counts only
//! when no directory above it has one: those below are fixtures and module hints.

use serde_json::Value;

use super::Reading;
use crate::license;
use crate::{Ecosystem, Package};

/// Whether a path is the root of a package in a `node_modules`; nothing when it is in none.
pub(crate) fn is_module_root(path: &str) -> Option<bool> {
    let (_, below) = path.rsplit_once("/node_modules/")?;
    let parts: Vec<&str> = below.split('/').collect();
    Some(match parts.as_slice() {
        [scope, _, _] => scope.starts_with('@'),
        [name, _] => !name.starts_with('.'),
        _ => false,
    })
}

pub(super) fn read(path: &str, text: &str) -> Reading {
    if is_module_root(path) == Some(false) {
        return Reading::default();
    }
    let text = text.trim_start_matches('\u{feff}');
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return Reading::problem(format!("not valid JSON: {error}")),
    };
    let (Some(name), Some(version)) = (text_of(&document["name"]), text_of(&document["version"]))
    else {
        return Reading::packages(Vec::new());
    };
    let mut package = Package::new(Ecosystem::Npm, name, version);
    package.license = license(&document);
    package.supplier = author(&document["author"]);
    Reading::packages(vec![package])
}

fn text_of(value: &Value) -> Option<&str> {
    value
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn license(document: &Value) -> Option<String> {
    let named = |value: &Value| {
        text_of(value)
            .or_else(|| text_of(&value["type"]))
            .map(str::to_owned)
    };
    if let Some(words) = named(&document["license"]) {
        return license::expression(&words);
    }
    let several = document["licenses"].as_array()?;
    let several = several
        .iter()
        .filter_map(|one| license::expression(&named(one)?));
    license::joined(&several.collect(), "OR")
}

fn author(value: &Value) -> Option<String> {
    let name = text_of(value).or_else(|| text_of(&value["name"]));
    name.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    #[test]
    fn roots_of_packages() {
        let cases = [
            ("/app/node_modules/a/package.json", Some(true)),
            ("/app/node_modules/@s/a/package.json", Some(true)),
            (
                "/app/node_modules/.pnpm/a@1/node_modules/a/package.json",
                Some(true),
            ),
            ("/app/node_modules/a/test/package.json", Some(false)),
            ("/app/node_modules/.bin/package.json", Some(false)),
            ("/app/package.json", None),
        ];
        for (path, want) in cases {
            assert_eq!(is_module_root(path), want, "{path}");
        }
    }

    #[test]
    fn documents() {
        let of = |text: &str| read("/n/node_modules/a/package.json", text);
        let full =
            of(r#"{"name":"@s/a","version":"1.2","license":{"type":"MIT"},"author":{"name":"x"}}"#);
        let Some(Claim::Packages(packages)) = full.claim else {
            panic!()
        };
        assert_eq!(packages[0].purl(None), "pkg:npm/%40s/a@1.2");
        assert_eq!(packages[0].license.as_deref(), Some("MIT"));
        assert_eq!(
            of(r#"{"type":"module"}"#).claim,
            Some(Claim::Packages(Vec::new()))
        );
        assert_eq!(of("{").problems.len(), 1);
    }
}
