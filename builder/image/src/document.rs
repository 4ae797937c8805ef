//! Manifests and indexes (OCI image specification, manifest.md and image-index.md; Docker's
//! "image manifest version 2, schema 2" is read as well).

use std::collections::BTreeMap;

use kiln_graph::{BlobDigest, ImageLayer, Platform};
use serde::{Deserialize, Serialize};

/// Media types.
pub mod media_type {
    /// An OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A Docker manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's configuration of an image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker list of manifests.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// Names a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// What the image runs on, in indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformDocument>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A platform as indexes write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformDocument {
    /// Go's name of the processor.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The operating system's version.
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
}

impl From<&Platform> for PlatformDocument {
    fn from(platform: &Platform) -> Self {
        let Platform {
            os,
            architecture,
            variant,
            os_version,
        } = platform.clone();
        Self {
            architecture,
            os,
            variant,
            os_version,
        }
    }
}

impl Descriptor {
    /// Names a blob, and says nothing more of it.
    #[must_use]
    pub fn new(media_type: &str, digest: BlobDigest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The layer of an image that it names, whose tar has this digest.
    #[must_use]
    pub fn image_layer(&self, diff_id: BlobDigest) -> ImageLayer {
        ImageLayer {
            blob: self.digest,
            size: self.size,
            media_type: self.media_type.clone(),
            diff_id,
        }
    }

    /// Whether it belongs to another image (an attestation) rather than being one.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
    }

    /// What the image runs on, where the index says.
    #[must_use]
    pub fn runs_on(&self) -> Option<Platform> {
        self.platform.as_ref().map(|p| {
            Platform::new(&p.os, &p.architecture, &p.variant).with_os_version(&p.os_version)
        })
    }
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default)]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Its media type; one that says none is OCI's.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self.media_type.as_str() {
            "" => media_type::MANIFEST,
            own => own,
        }
    }
}

/// An index of several images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default)]
    pub media_type: String,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The attestations about an image that lie beside it.
    pub fn attestations_of(&self, image: &BlobDigest) -> impl Iterator<Item = &Descriptor> {
        let about = image.to_string();
        let is_it = move |entry: &&Descriptor| {
            entry.annotations.get("vnd.docker.reference.digest") == Some(&about)
        };
        self.manifests.iter().filter(is_it)
    }
}

/// What a document with some media type is.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Reads a document; the reason why not, in words.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| format!("its manifest is not JSON: {}", unread(&error)))?;
        if value["schemaVersion"] == 1 {
            return Err("its manifest has Docker's old schema 1, which is not supported: push it again with a newer tool".to_owned());
        }
        let read = if value.get("manifests").is_some() {
            serde_json::from_value(value).map(Self::Index)
        } else {
            serde_json::from_value(value).map(Self::Manifest)
        };
        read.map_err(|error| format!("its manifest can't be understood: {}", unread(&error)))
    }
}

/// The image of an index that serves a platform best.
pub(crate) fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let images = index
        .manifests
        .iter()
        .filter(|image| !image.is_attestation());
    // Of several versions of an operating system the latest is taken.
    let fitting = images.clone().filter_map(|image| {
        let platform = image.runs_on()?;
        let version = platform.os_version.split('.');
        let version: Vec<u64> = version.map(|part| part.parse().unwrap_or(0)).collect();
        Some(((platform.serves(wanted)?, version), image))
    });
    let best = fitting
        .max_by_key(|(rank, _)| rank.clone())
        .map(|(_, image)| image);
    best.or_else(|| {
        images
            .clone()
            .next()
            .filter(|only| only.platform.is_none() && images.count() == 1)
    })
}
/// Why a document can't be read, without repeating what is in it.
pub(crate) fn unread(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let text = error.to_string();
    if text.starts_with("missing field") {
        return text;
    }
    let what = match error.classify() {
        Category::Syntax | Category::Eof => "no JSON",
        Category::Data | Category::Io => "not what is expected there",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}
