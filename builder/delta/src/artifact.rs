//! The oci-delta artifact, version 1 (containers/oci-delta, "Delta file format"): a manifest whose
//! subject is the new image's, and whose layers are the new image's manifest and configuration, and
//! for each layer that the old image lacks a tar-diff, or the layer itself where that is shorter.
//!
//! kiln adds to the descriptor of a layer's tar-diff the annotation `dev.kiln.encoder`, which other
//! readers ignore: how the tar is compressed to the very blob that the manifest names, and the tar's
//! length in bytes.

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use serde::{Deserialize, Serialize};

use crate::format::TAR_DIFF;

/// The artifact's type.
pub const ARTIFACT_TYPE: &str = "application/vnd.io.github.containers.oci-delta.v1";
/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of the empty configuration.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The empty configuration.
pub const EMPTY_CONFIG: &[u8] = b"{}";
/// Annotation: the old image's manifest.
pub const SOURCE: &str = "io.github.containers.delta.source";
/// Annotation: the old image's configuration.
pub const SOURCE_CONFIG: &str = "io.github.containers.delta.source-config";
/// Annotation: the new image's manifest.
pub const TARGET: &str = "io.github.containers.delta.target";
const REUSED: &str = "io.github.containers.delta.reused";
const REUSED_DIFF_IDS: &str = "io.github.containers.delta.reused-diff-id";
const CONTENT: &str = "io.github.containers.delta.content";
const TO: &str = "io.github.containers.delta.to";
const ENCODER: &str = "dev.kiln.encoder";

/// An image has no more layers.
const MAX_LAYERS: usize = 4096;

/// Names a blob (OCI image specification, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Blob {
    /// Names a blob, and says nothing more of it.
    #[must_use]
    pub fn new(media_type: &str, digest: BlobDigest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether it is a tar-diff.
    #[must_use]
    pub fn is_tar_diff(&self) -> bool {
        self.media_type == TAR_DIFF
    }

    /// How its tar is compressed, where that is known.
    #[must_use]
    pub fn encoder(&self) -> Option<&str> {
        self.annotations.get(ENCODER).map(String::as_str)
    }

    fn content(&self) -> &str {
        self.annotations.get(CONTENT).map_or("", String::as_str)
    }

    fn containing(mut self, content: &str) -> Self {
        self.annotations
            .insert(CONTENT.to_owned(), content.to_owned());
        self
    }
}

/// The artifact's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeltaManifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    config: Blob,
    layers: Vec<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Blob>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The old and the new image of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The old image's manifest.
    pub source: BlobDigest,
    /// The old image's configuration.
    pub source_config: BlobDigest,
    /// The new image's manifest.
    pub manifest: Blob,
    /// The new image's configuration.
    pub config: Blob,
}

/// What becomes of one layer of the new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerDelta {
    /// The old image has it.
    Reused {
        /// The new image's blob.
        blob: BlobDigest,
        /// The digest of its tar.
        diff_id: BlobDigest,
    },
    /// It is made of a blob.
    Made {
        /// The new image's blob.
        to: BlobDigest,
        /// A tar-diff, or the layer itself.
        from: Blob,
        /// How the tar is compressed, where that is known.
        encoder: Option<String>,
    },
}

/// A document that is no artifact of this kind, or contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no oci-delta artifact: {0}")]
pub struct BadArtifact(&'static str);

impl DeltaManifest {
    /// The manifest for the layers of a new image, lowest first.
    #[must_use]
    pub fn new(images: &Images, empty: BlobDigest, layers: &[LayerDelta]) -> Self {
        let mut own = vec![
            images.manifest.clone().containing("image-manifest"),
            images.config.clone().containing("image-config"),
        ];
        let (mut reused, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in layers {
            match layer {
                LayerDelta::Reused { blob, diff_id } => {
                    reused.push(*blob);
                    diff_ids.push(*diff_id);
                }
                LayerDelta::Made { to, from, encoder } => {
                    let mut from = from.clone().containing("image-layer");
                    from.annotations.insert(TO.to_owned(), to.to_string());
                    let encoder = encoder.clone().map(|encoder| (ENCODER.to_owned(), encoder));
                    from.annotations.extend(encoder);
                    own.push(from);
                }
            }
        }
        let mut annotations: BTreeMap<String, String> = [
            (SOURCE, images.source),
            (SOURCE_CONFIG, images.source_config),
            (TARGET, images.manifest.digest),
        ]
        .map(|(name, digest)| (name.to_owned(), digest.to_string()))
        .into();
        if !reused.is_empty() {
            annotations.insert(REUSED.to_owned(), list(&reused));
            annotations.insert(REUSED_DIFF_IDS.to_owned(), list(&diff_ids));
        }
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: ARTIFACT_TYPE.to_owned(),
            config: Blob::new(EMPTY, empty, EMPTY_CONFIG.len() as u64),
            layers: own,
            subject: Some(images.manifest.clone()),
            annotations,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is another document, or lacks what an artifact must have.
    pub fn read(bytes: &[u8]) -> Result<Self, BadArtifact> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|_| BadArtifact("its manifest can't be understood"))?;
        if manifest.artifact_type != ARTIFACT_TYPE {
            return Err(BadArtifact("its type is another"));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(BadArtifact("it has too many layers"));
        }
        manifest.images()?;
        Ok(manifest)
    }

    /// The old and the new image.
    ///
    /// # Errors
    /// When one isn't named.
    pub fn images(&self) -> Result<Images, BadArtifact> {
        let one = |content: &str| self.layers.iter().find(|layer| layer.content() == content);
        let manifest = one("image-manifest").ok_or(BadArtifact("it has no image's manifest"))?;
        let config = one("image-config").ok_or(BadArtifact("it has no image's configuration"))?;
        let digest = |name: &str| self.annotations.get(name)?.parse::<BlobDigest>().ok();
        let source_config = digest(SOURCE_CONFIG);
        if digest(TARGET).is_some_and(|target| target != manifest.digest) {
            return Err(BadArtifact("it names two targets"));
        }
        let plain = |blob: &Blob| Blob::new(&blob.media_type, blob.digest, blob.size);
        Ok(Images {
            source_config: source_config.ok_or(BadArtifact("it doesn't name its source"))?,
            source: digest(SOURCE).unwrap_or(manifest.digest),
            manifest: plain(manifest),
            config: plain(config),
        })
    }

    /// The blob that a layer of the new image is made of; none where the old image has the layer.
    #[must_use]
    pub fn layer(&self, to: &BlobDigest) -> Option<&Blob> {
        let to = to.to_string();
        self.layer_blobs()
            .find(|layer| layer.annotations.get(TO) == Some(&to))
    }

    /// All blobs of the artifact that layers are made of.
    pub fn layer_blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers
            .iter()
            .filter(|layer| layer.content() == "image-layer")
    }

    /// Its bytes in a registry or archive.
    ///
    /// # Errors
    /// Never, for nothing in it can't be written.
    pub fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Its annotations, which lists of referrers repeat.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }
}

fn list(digests: &[BlobDigest]) -> String {
    let texts: Vec<String> = digests
        .iter()
        .map(|digest| format!("\"{digest}\""))
        .collect();
    format!("[{}]", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> BlobDigest {
        BlobDigest::from_sha256([byte; 32])
    }

    fn sample() -> DeltaManifest {
        let images = Images {
            source: digest(1),
            source_config: digest(2),
            manifest: Blob::new(MANIFEST, digest(3), 30),
            config: Blob::new("application/vnd.oci.image.config.v1+json", digest(4), 40),
        };
        let layers = [
            LayerDelta::Reused {
                blob: digest(5),
                diff_id: digest(6),
            },
            LayerDelta::Made {
                to: digest(7),
                from: Blob::new(TAR_DIFF, digest(8), 80),
                encoder: Some("gzip:6".to_owned()),
            },
        ];
        DeltaManifest::new(&images, digest(9), &layers)
    }

    #[test]
    fn an_artifact_is_read_as_it_was_written() {
        let manifest = sample();
        let read = DeltaManifest::read(&manifest.bytes().unwrap()).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.images().unwrap().source_config, digest(2));
        let layer = read.layer(&digest(7)).unwrap();
        assert_eq!((layer.digest, layer.encoder()), (digest(8), Some("gzip:6")));
        assert!(layer.is_tar_diff());
        assert_eq!(read.layer(&digest(5)), None);
        let reused = read.annotations()[REUSED].clone();
        assert_eq!(reused, format!("[\"{}\"]", digest(5)));
    }

    #[test]
    fn contradictions_are_refused() {
        let text = String::from_utf8(sample().bytes().unwrap()).unwrap();
        let target = format!("\"{TARGET}\":\"{}\"", digest(3));
        for (part, with) in [
            (ARTIFACT_TYPE, "application/x"),
            ("image-manifest", "other"),
            ("image-config", "other"),
            (SOURCE_CONFIG, "x"),
            (&*target, &format!("\"{TARGET}\":\"{}\"", digest(1))),
            ("{\"schema", "[\"schema"),
        ] {
            assert!(text.contains(part), "{part}");
            let changed = text.replace(part, with);
            assert!(DeltaManifest::read(changed.as_bytes()).is_err(), "{part}");
        }
    }
}
