//! What a document is about, and what all documents say alike.

use kiln_graph::{BlobDigest, Digest};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::purl::encode;
use crate::{FoundPackage, Inventory};

/// The image that a document is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its manifest's digest.
    pub digest: Option<BlobDigest>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its layers, lowest first: those that [`FoundPackage::layer`] counts.
    pub layers: Vec<SubjectLayer>,
}

/// A layer of such an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubjectLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Option<BlobDigest>,
    /// The step that made it: `build[3] RUN make`, or what the image's history says.
    pub step: String,
    /// Where the build file asks for it: `Dockerfile:7`.
    pub location: Option<String>,
}

/// The program that writes these documents.
pub(super) const TOOL: &str = concat!("kiln-", env!("CARGO_PKG_VERSION"));

/// Names the content of a document.
pub(super) fn identity(subject: &Subject, inventory: &Inventory) -> Digest {
    let content = serde_json::json!([TOOL, subject, inventory]);
    Digest::of(content.to_string().as_bytes())
}

/// A time in seconds since 1970, as documents write it.
pub(crate) fn time(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

impl Subject {
    /// The package URL of the image with this digest.
    pub(super) fn purl(&self, digest: &BlobDigest) -> String {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        let name = name.split([':', '@']).next().unwrap_or_default();
        let digest = digest.to_string();
        format!(
            "pkg:oci/{}@{}",
            encode(&name.to_lowercase()),
            encode(&digest)
        )
    }

    pub(super) fn layer(&self, found: &FoundPackage) -> Option<&SubjectLayer> {
        self.layers.get(found.layer)
    }
}

impl SubjectLayer {
    /// The first line of the step, which may be a whole script.
    pub(super) fn step_line(&self) -> String {
        let line = self.step.lines().next().unwrap_or_default();
        let line = crate::provenance::without_credentials(line);
        line.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}
