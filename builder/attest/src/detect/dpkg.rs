//! Debian's packages: `/var/lib/dpkg/status`, or in distroless images one file a package in
//! `status.d` (deb-control(5), dpkg-query(1)); their licences from copyright files.

use std::collections::BTreeSet;

use kiln_graph::ImagePath;

use super::reading::List;
use super::stanza::{Stanza, stanzas};
use super::{Claim, Reading};
use crate::license;
use crate::{Ecosystem, Package};

/// States in which a package's files are not there.
const ABSENT: &[&str] = &["not-installed", "config-files"];

pub(super) fn is_status_file(path: &str) -> bool {
    let name = path
        .rsplit_once("/var/lib/dpkg/status.d/")
        .map(|(_, name)| name);
    name.is_some_and(|name| !name.contains('/') && !name.ends_with(".md5sums"))
}

pub(super) fn is_copyright(path: &str) -> bool {
    let package = path.strip_prefix("/usr/share/doc/");
    package.is_some_and(|rest| rest.matches('/').count() == 1)
}

pub(super) fn status(path: &str, text: &str) -> Reading {
    let mut list = List::default();
    for stanza in stanzas(text) {
        match package(&stanza) {
            Ok(found) => list.extend(found),
            Err(reason) => list.problem(reason),
        }
    }
    if list.is_empty() && !text.trim().is_empty() && !path.ends_with("/status") {
        list.problem("no package in it");
    }
    list.into()
}

fn package(stanza: &Stanza<'_>) -> Result<Option<Package>, String> {
    let state = stanza
        .get("Status")
        .and_then(|status| status.split_whitespace().last());
    if state.is_some_and(|state| ABSENT.contains(&state)) {
        return Ok(None);
    }
    let (Some(name), Some(version)) = (stanza.get("Package"), stanza.get("Version")) else {
        let line = stanza.first_line();
        return Err(format!(
            "the paragraph '{line}' has no Package or no Version"
        ));
    };
    let mut package = Package::new(Ecosystem::Deb, name, version)
        .qualify("arch", stanza.get("Architecture"))
        .qualify(
            "upstream",
            upstream(stanza.get("Source"), version).as_deref(),
        );
    package.supplier = stanza.get("Maintainer").map(str::to_owned);
    Ok(Some(package))
}

/// `glibc`, or `gcc@12.2.0-14` where the source's version is another.
fn upstream(source: Option<&str>, version: &str) -> Option<String> {
    let source = source?;
    let (name, own) = match source.split_once(" (") {
        Some((name, own)) => (name, own.trim_end_matches(')')),
        None => (source, version),
    };
    Some(match own == version {
        true => name.to_owned(),
        false => format!("{name}@{own}"),
    })
}

/// A link in place of a package's documentation, or of its copyright file.
pub(super) fn link(path: &ImagePath, target: &[u8]) -> Option<Claim> {
    let text = path.to_string();
    let rest = text.strip_prefix("/usr/share/doc/")?;
    if rest.contains('/') && !is_copyright(&text) {
        return None;
    }
    let target = path.parent()?.resolve(target);
    let is_directory = !rest.contains('/');
    Some(Claim::Link(if is_directory {
        target.join("copyright")
    } else {
        target
    }))
}

/// The licences of a machine-readable copyright file; of another kind of file, none.
pub(super) fn copyright(text: &str) -> Reading {
    let is_readable = text.trim_start().starts_with("Format:");
    let mut found = BTreeSet::new();
    if is_readable {
        for stanza in stanzas(text) {
            let is_of_files = stanza.get("Files").is_some() || stanza.get("Format").is_some();
            let license = stanza.get("License").filter(|_| is_of_files);
            found.extend(license.and_then(license::debian));
        }
    }
    Reading::of(Claim::Copyright(license::joined(&found, "AND")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed() {
        let text = "Package: a\nStatus: install ok installed\nMaintainer: M <m@x>\nArchitecture: amd64\nSource: s (1)\nVersion: 2\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: odd\nStatus: install ok half-configured\nVersion: 3\nSource: odd-src\n\nDescription: no package\n";
        let reading = status("/var/lib/dpkg/status", text);
        let Some(Claim::Packages(packages)) = reading.claim else {
            panic!()
        };
        let shown: Vec<String> = packages.iter().map(|package| package.purl(None)).collect();
        assert_eq!(
            shown,
            [
                "pkg:deb/a@2?arch=amd64&upstream=s%401",
                "pkg:deb/odd@3?upstream=odd-src"
            ]
        );
        assert_eq!(reading.problems.len(), 1);
        assert!(is_status_file("/var/lib/dpkg/status.d/base"));
        assert!(!is_status_file("/var/lib/dpkg/status.d/base.md5sums"));
    }

    #[test]
    fn licences() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+\n text\n\nFiles: x\nLicense: Expat\n\nLicense: GPL-2+\n words\n";
        let want = Claim::Copyright(Some("GPL-2.0-or-later AND MIT".to_owned()));
        assert_eq!(copyright(text).claim, Some(want));
        assert_eq!(
            copyright("This is free software").claim,
            Some(Claim::Copyright(None))
        );
        let link = |path: &str, target: &str| link(&path.into(), target.as_bytes());
        let want = Some(Claim::Link("/usr/share/doc/gcc-12-base/copyright".into()));
        assert_eq!(link("/usr/share/doc/libgcc-s1", "gcc-12-base"), want);
        assert_eq!(
            link("/usr/share/doc/x/copyright", "../gcc-12-base/copyright"),
            want
        );
        assert_eq!(link("/usr/share/doc/x/a/b", "c"), None);
    }
}
