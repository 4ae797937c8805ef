//! Python's packages: `METADATA` in `*.dist-info` (Core metadata specification), `PKG-INFO` in
//! `*.egg-info`, or an `*.egg-info` that is a file itself.

use super::Reading;
use super::stanza::{Stanza, stanzas};
use crate::license;
use crate::{Ecosystem, Package};

/// Licences as the index's classifiers name them.
const CLASSIFIERS: &[(&str, &str)] = &[
    ("Apache Software License", "Apache-2.0"),
    ("BSD License", "LicenseRef-BSD"),
    ("GNU Affero General Public License v3", "AGPL-3.0-only"),
    ("GNU General Public License v2 (GPLv2)", "GPL-2.0-only"),
    (
        "GNU General Public License v2 or later (GPLv2+)",
        "GPL-2.0-or-later",
    ),
    ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
    (
        "GNU General Public License v3 or later (GPLv3+)",
        "GPL-3.0-or-later",
    ),
    (
        "GNU Lesser General Public License v3 (LGPLv3)",
        "LGPL-3.0-only",
    ),
    ("ISC License (ISCL)", "ISC"),
    ("MIT License", "MIT"),
    ("MIT No Attribution License (MIT-0)", "MIT-0"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("Python Software Foundation License", "PSF-2.0"),
    ("The Unlicense (Unlicense)", "Unlicense"),
    ("Zope Public License", "ZPL-2.1"),
];

pub(super) fn is_metadata(path: &str) -> bool {
    path.ends_with(".dist-info/METADATA")
        || path.ends_with(".egg-info/PKG-INFO")
        || path.ends_with("/EGG-INFO/PKG-INFO")
        || path.ends_with(".egg-info")
}

pub(super) fn read(path: &str, text: &str) -> Reading {
    let header = stanzas(text).next();
    let named = header
        .as_ref()
        .and_then(|header| Some((header, header.get("Name")?)));
    let Some((header, name)) = named else {
        // Projects installed in place leave an empty link behind.
        return match path.ends_with(".egg-info") {
            true => Reading::default(),
            false => Reading::problem("no Name field"),
        };
    };
    let mut package = Package::new(
        Ecosystem::Pypi,
        name,
        header.get("Version").unwrap_or_default(),
    );
    package.license = license(header);
    let supplier = header.get("Author").or_else(|| header.get("Author-email"));
    package.supplier = supplier.map(str::to_owned);
    Reading::packages(vec![package])
}

fn license(header: &Stanza<'_>) -> Option<String> {
    if let Some(text) = header.get("License-Expression") {
        return license::expression(text);
    }
    let words = header
        .get("License")
        .filter(|text| !text.eq_ignore_ascii_case("unknown"));
    let known = words.and_then(license::known);
    known
        .or_else(|| classified(header))
        .or_else(|| words.and_then(license::expression))
}

fn classified(header: &Stanza<'_>) -> Option<String> {
    let name = |line: &str| {
        line.strip_prefix("License ::")?
            .rsplit(":: ")
            .next()
            .map(str::to_owned)
    };
    let id = |name: String| CLASSIFIERS.iter().find(|(known, _)| *known == name);
    let ids = header
        .all("Classifier")
        .filter_map(|line| Some(id(name(line)?)?.1.to_owned()));
    license::joined(&ids.collect(), "OR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    fn one(text: &str) -> Package {
        let Some(Claim::Packages(mut packages)) = read("/x.dist-info/METADATA", text).claim else {
            panic!()
        };
        packages.remove(0)
    }

    #[test]
    fn metadata() {
        let package = one(
            "Metadata-Version: 2.1\nName: Flask_X\nVersion: 3.0\nLicense: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n\nName: in the description\n",
        );
        assert_eq!(package.purl(None), "pkg:pypi/flask-x@3.0");
        assert_eq!(package.license.as_deref(), Some("MIT"));
        assert_eq!(
            one("Name: a\nLicense-Expression: MIT OR Apache-2.0")
                .license
                .as_deref(),
            Some("MIT OR Apache-2.0")
        );
        assert_eq!(
            read("/x.dist-info/METADATA", "nothing").problems,
            ["no Name field"]
        );
    }
}
