//! Lists of what is in an image, as documents. The same image gives the same bytes: everything is
//! sorted, the time is the image's, and identifiers are made from the content.

mod cyclonedx;
mod spdx;
mod subject;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Inventory;
pub(crate) use subject::time;
pub use subject::{Subject, SubjectLayer};

/// A kind of document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// SPDX 2.3 as JSON.
    #[default]
    Spdx,
    /// CycloneDX 1.6 as JSON.
    CycloneDx,
}

impl Format {
    /// The type of in-toto predicate that carries it.
    #[must_use]
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Spdx => "https://spdx.dev/Document",
            Self::CycloneDx => "https://cyclonedx.org/bom",
        }
    }

    /// The name that files of this kind have.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Spdx => "sbom.spdx.json",
            Self::CycloneDx => "sbom.cdx.json",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spdx" | "spdx-json" => Ok(Self::Spdx),
            "cyclonedx" | "cyclonedx-json" => Ok(Self::CycloneDx),
            other => Err(format!(
                "unknown kind of SBOM '{other}': use spdx or cyclonedx"
            )),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spdx => "spdx",
            Self::CycloneDx => "cyclonedx",
        })
    }
}

/// A document about an image.
#[must_use]
pub fn document(format: Format, subject: &Subject, inventory: &Inventory) -> Value {
    match format {
        Format::Spdx => spdx::document(subject, inventory),
        Format::CycloneDx => cyclonedx::document(subject, inventory),
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::{BlobDigest, ImagePath};

    use super::*;
    use crate::{Distribution, Ecosystem, FoundPackage, Package};

    fn sample() -> (Subject, Inventory) {
        let layer = |step: &str, location: Option<&str>, byte| SubjectLayer {
            diff_id: Some(BlobDigest::from_sha256([byte; 32])),
            step: step.to_owned(),
            location: location.map(str::to_owned),
        };
        let subject = Subject {
            name: "example.com/app:1".to_owned(),
            digest: Some(BlobDigest::from_sha256([7; 32])),
            created: 1_700_000_000,
            layers: vec![
                layer("base", None, 1),
                layer("app[2] RUN pip install x\nmore", Some("Dockerfile:2"), 2),
            ],
        };
        let found = |package: Package, layer, path: &str| FoundPackage {
            purl: package.purl(None),
            package,
            layer,
            paths: [ImagePath::new(path)].into(),
        };
        let deb = Package {
            supplier: Some("A (b) Team <a@b.c>".to_owned()),
            license: Some("MIT AND LicenseRef-odd".to_owned()),
            ..Package::new(Ecosystem::Deb, "libx", "1:2-3")
        };
        let inventory = Inventory {
            distribution: Some(Distribution {
                id: "debian".into(),
                version: "12".into(),
                name: "Debian".into(),
            }),
            packages: vec![
                found(deb, 0, "/var/lib/dpkg/status"),
                found(
                    Package::new(Ecosystem::Pypi, "X_y", "3"),
                    1,
                    "/s/x.dist-info/METADATA",
                ),
            ],
            warnings: Vec::new(),
        };
        (subject, inventory)
    }

    #[test]
    fn both_formats() {
        let (subject, inventory) = sample();
        insta::assert_json_snapshot!("spdx", document(Format::Spdx, &subject, &inventory));
        insta::assert_json_snapshot!(
            "cyclonedx",
            document(Format::CycloneDx, &subject, &inventory)
        );
    }

    #[test]
    fn identifiers_follow_the_content() {
        let (subject, inventory) = sample();
        let first = document(Format::Spdx, &subject, &inventory);
        assert_eq!(first, document(Format::Spdx, &subject, &inventory));
        let other = Inventory {
            packages: Vec::new(),
            ..inventory
        };
        let second = document(Format::Spdx, &subject, &other);
        assert_ne!(first["documentNamespace"], second["documentNamespace"]);
    }
}
