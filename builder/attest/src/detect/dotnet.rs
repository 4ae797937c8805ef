//! .NET's packages: what a published application's `NAME.deps.json` lists as packages.

use serde_json::Value;

use super::Reading;
use crate::{Ecosystem, Package};

/// Kinds of libraries that come from a package.
const PACKAGES: &[&str] = &["package", "runtimepack"];

pub(super) fn read(text: &str) -> Reading {
    let document: Value = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(document) => document,
        Err(error) => return Reading::problem(format!("not valid JSON: {error}")),
    };
    let Some(libraries) = document["libraries"].as_object() else {
        return Reading::problem("no libraries listed");
    };
    let package = |(name, library): (&String, &Value)| {
        let kind = library["type"].as_str()?;
        let (name, version) = name.rsplit_once('/')?;
        PACKAGES.contains(&kind).then(|| {
            let name = name.strip_prefix("runtimepack.").unwrap_or(name);
            Package::new(Ecosystem::Nuget, name, version)
        })
    };
    Reading::packages(libraries.iter().filter_map(package))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    #[test]
    fn libraries() {
        let text =
            r#"{"libraries":{"App/1.0":{"type":"project"},"Serilog/3.1.1":{"type":"package"}}}"#;
        let Some(Claim::Packages(packages)) = read(text).claim else {
            panic!()
        };
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].purl(None), "pkg:nuget/Serilog@3.1.1");
        assert_eq!(read("{}").problems, ["no libraries listed"]);
    }
}
