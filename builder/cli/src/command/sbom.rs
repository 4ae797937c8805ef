//! `kiln image sbom`.

use std::collections::BTreeMap;

use clap::Args;
use kiln::Error;
use kiln_attest::sbom::{Format, Subject, document};
use kiln_attest::{FoundPackage, Inventory};
use kiln_engine::Engine;
use kiln_graph::Platform;

use super::{print, print_json, say};
use crate::display::{Style, display};

/// The flags of `kiln image sbom`.
#[derive(Args, Debug, Clone)]
pub(crate) struct SbomArgs {
    /// The image, in the store, a registry or an archive
    pub(super) name: String,
    /// The format: spdx (2.3) or cyclonedx (1.6)
    #[arg(long, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Compare with the packages of another image
    #[arg(long, value_name = "IMAGE", conflicts_with = "format")]
    diff: Option<String>,
    /// With --diff, as JSON
    #[arg(long, requires = "diff")]
    json: bool,
    /// Of several, the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

impl SbomArgs {
    /// The images that they name.
    pub(super) fn names(&mut self) -> Vec<&mut String> {
        std::iter::once(&mut self.name)
            .chain(&mut self.diff)
            .collect()
    }
}

/// Runs `kiln image sbom`.
pub(crate) fn run(engine: &Engine, args: &SbomArgs) -> Result<(), Error> {
    let images: Vec<&str> = std::iter::once(&args.name)
        .chain(&args.diff)
        .map(String::as_str)
        .collect();
    let platform = super::image_id::platform_of(engine, &images, args.platform.as_deref())?;
    let (subject, inventory) = packages(engine, &args.name, &platform)?;
    let Some(old) = &args.diff else {
        let text = document(args.format, &subject, &inventory);
        print_json(&text);
        return Ok(());
    };
    let (_, before) = packages(engine, old, &platform)?;
    let changes = changes(&before, &inventory);
    match args.json {
        true => print_json(&serde_json::json!(changes)),
        false => print(&changes.iter().map(Change::line).collect::<String>()),
    }
    Ok(())
}

fn packages(
    engine: &Engine,
    name: &str,
    platform: &Platform,
) -> Result<(Subject, Inventory), Error> {
    let found = engine
        .images()
        .packages(name, platform, &*display(Style::Auto))?;
    for warning in &found.1.warnings {
        say(&format!("WARNING: {}: {}", warning.path, warning.reason));
    }
    Ok(found)
}

/// A package that one of two images has, or has in another version.
#[derive(Debug, serde::Serialize)]
struct Change {
    ecosystem: String,
    name: String,
    before: Vec<String>,
    after: Vec<String>,
}

impl Change {
    fn line(&self) -> String {
        let Self {
            ecosystem, name, ..
        } = self;
        let (before, after) = (self.before.join(", "), self.after.join(", "));
        match (self.before.is_empty(), self.after.is_empty()) {
            (true, _) => format!("added    {ecosystem} {name} {after}\n"),
            (_, true) => format!("removed  {ecosystem} {name} {before}\n"),
            _ => format!("changed  {ecosystem} {name} {before} -> {after}\n"),
        }
    }
}

fn changes(before: &Inventory, after: &Inventory) -> Vec<Change> {
    let mut all: BTreeMap<(String, &str), [Vec<String>; 2]> = BTreeMap::new();
    let sides = [after.missing_from(before), before.missing_from(after)];
    for (side, found) in sides.into_iter().enumerate() {
        for FoundPackage { package, .. } in found {
            let key = (package.ecosystem.to_string(), package.name.as_str());
            all.entry(key).or_default()[side].push(package.version.clone());
        }
    }
    let all = all.into_iter();
    all.map(|((ecosystem, name), [before, after])| Change {
        ecosystem,
        name: name.to_owned(),
        before,
        after,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use kiln_attest::{Ecosystem, Package};

    use super::*;

    fn inventory(packages: &[(&str, &str)]) -> Inventory {
        let found = |(name, version): &(&str, &str)| {
            let package = Package::new(Ecosystem::Deb, *name, *version);
            FoundPackage {
                purl: package.purl(None),
                package,
                layer: 0,
                paths: std::collections::BTreeSet::new(),
            }
        };
        Inventory {
            packages: packages.iter().map(found).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn what_changed_between_images() {
        let before = inventory(&[("a", "1"), ("b", "1"), ("same", "1")]);
        let after = inventory(&[("a", "2"), ("c", "1"), ("same", "1")]);
        let lines: String = changes(&before, &after).iter().map(Change::line).collect();
        assert_eq!(
            lines,
            "changed  deb a 1 -> 2\nremoved  deb b 1\nadded    deb c 1\n"
        );
    }
}
