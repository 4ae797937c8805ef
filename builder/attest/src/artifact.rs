//! The manifests that attestations and signatures lie in (OCI image specification 1.1,
//! manifest.md, "Guidelines for Artifact Usage"; BuildKit's `attestation-storage.md`).

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bundle::BUNDLE_MEDIA_TYPE;
use crate::statement::STATEMENT_MEDIA_TYPE;

/// What BuildKit's attestations are as artifacts.
pub const ATTESTATION_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// A manifest's media type.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: &[u8] = b"{}";
/// The annotation for the predicate of a statement that lies in a layer.
pub const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";
/// The annotation for the predicate of a signed statement.
pub const SIGNED_PREDICATE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";
/// The annotation for the image that an entry of an index is about.
pub const ABOUT_ANNOTATION: &str = "vnd.docker.reference.digest";

/// Names a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactDescriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// What kind of artifact a manifest is, in lists of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ArtifactDescriptor {
    /// Names some bytes.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, BlobDigest::of(bytes), bytes.len() as u64)
    }

    /// Names a blob by what it is, its digest and its length.
    #[must_use]
    pub fn new(media_type: &str, digest: BlobDigest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            data: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A manifest that belongs to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default)]
    pub media_type: String,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration, which says nothing.
    pub config: ArtifactDescriptor,
    /// The content.
    pub layers: Vec<ArtifactDescriptor>,
    /// The manifest it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<ArtifactDescriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest with all that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Names the manifest; with its kind and annotations, as lists of referrers do.
    pub descriptor: ArtifactDescriptor,
    /// The blobs it names.
    pub blobs: Vec<Vec<u8>>,
}

/// How attestations that lie in an index are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As artifacts with a subject.
    #[default]
    Artifact,
    /// As images that can't run, for registries that know no artifacts.
    Legacy,
}

/// Statements, each with its predicate's type, about the image that `subject` names.
#[must_use]
pub fn attestations(
    subject: &ArtifactDescriptor,
    statements: &[(String, Vec<u8>)],
    form: Form,
) -> Artifact {
    let layer = |(predicate, bytes): &(String, Vec<u8>)| ArtifactDescriptor {
        annotations: [(PREDICATE_ANNOTATION.to_owned(), predicate.clone())].into(),
        ..ArtifactDescriptor::of(STATEMENT_MEDIA_TYPE, bytes)
    };
    let layers: Vec<ArtifactDescriptor> = statements.iter().map(layer).collect();
    let blobs = statements.iter().map(|(_, bytes)| bytes.clone()).collect();
    match form {
        Form::Artifact => artifact(ATTESTATION_TYPE, subject, layers, blobs, BTreeMap::new()),
        Form::Legacy => legacy(layers, blobs),
    }
}

/// A signed statement about what `subject` names (cosign's `BUNDLE_SPEC.md`); `created` is a time
/// (RFC 3339).
#[must_use]
pub fn signature(
    subject: &ArtifactDescriptor,
    predicate: &str,
    bundle: Vec<u8>,
    created: &str,
) -> Artifact {
    let file = format!("sha256-{}.sigstore.json", subject.digest.hex());
    let layer = ArtifactDescriptor {
        annotations: [("org.opencontainers.image.title".to_owned(), file)].into(),
        ..ArtifactDescriptor::of(BUNDLE_MEDIA_TYPE, &bundle)
    };
    let annotations = [
        ("dev.sigstore.bundle.content", "dsse-envelope"),
        (SIGNED_PREDICATE_ANNOTATION, predicate),
        ("org.opencontainers.image.created", created),
    ];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    artifact(
        BUNDLE_MEDIA_TYPE,
        subject,
        vec![layer],
        vec![bundle],
        annotations.into(),
    )
}

fn artifact(
    kind: &str,
    subject: &ArtifactDescriptor,
    layers: Vec<ArtifactDescriptor>,
    mut blobs: Vec<Vec<u8>>,
    annotations: BTreeMap<String, String>,
) -> Artifact {
    blobs.push(EMPTY.to_vec());
    let config = ArtifactDescriptor {
        data: Some("e30=".to_owned()),
        ..ArtifactDescriptor::of(EMPTY_MEDIA_TYPE, EMPTY)
    };
    let subject = ArtifactDescriptor::new(&subject.media_type, subject.digest, subject.size);
    finish(
        ArtifactManifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.to_owned(),
            artifact_type: Some(kind.to_owned()),
            config,
            layers,
            subject: Some(subject),
            annotations,
        },
        blobs,
    )
}

fn legacy(layers: Vec<ArtifactDescriptor>, mut blobs: Vec<Vec<u8>>) -> Artifact {
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = config.to_string().into_bytes();
    let named = ArtifactDescriptor::of(CONFIG_MEDIA_TYPE, &config);
    blobs.push(config);
    finish(
        ArtifactManifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.to_owned(),
            artifact_type: None,
            config: named,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        },
        blobs,
    )
}

fn finish(manifest: ArtifactManifest, blobs: Vec<Vec<u8>>) -> Artifact {
    let bytes = json!(manifest).to_string().into_bytes();
    Artifact {
        descriptor: ArtifactDescriptor {
            artifact_type: manifest.artifact_type,
            annotations: manifest.annotations,
            ..ArtifactDescriptor::of(MANIFEST_MEDIA_TYPE, &bytes)
        },
        manifest: bytes,
        blobs,
    }
}

/// The annotations that tie an entry of an index to the image it is about.
#[must_use]
pub fn index_annotations(image: &BlobDigest) -> BTreeMap<String, String> {
    let pairs = [
        (
            "vnd.docker.reference.type",
            "attestation-manifest".to_owned(),
        ),
        (ABOUT_ANNOTATION, image.to_string()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts() {
        let subject = ArtifactDescriptor::of(MANIFEST_MEDIA_TYPE, b"image");
        let statements = [(
            "https://slsa.dev/provenance/v1".to_owned(),
            b"{\"a\":1}".to_vec(),
        )];
        for (name, form) in [("artifact", Form::Artifact), ("legacy", Form::Legacy)] {
            let made = attestations(&subject, &statements, form);
            let manifest: serde_json::Value = serde_json::from_slice(&made.manifest).unwrap();
            insta::assert_json_snapshot!(name, manifest);
            let named = &manifest["layers"][0]["digest"];
            assert!(
                made.blobs
                    .iter()
                    .any(|blob| *named == BlobDigest::of(blob).to_string())
            );
            assert_eq!(made.descriptor.digest, BlobDigest::of(&made.manifest));
        }
        let signed = signature(
            &subject,
            "https://x",
            b"bundle".to_vec(),
            "2024-01-01T00:00:00Z",
        );
        let manifest: serde_json::Value = serde_json::from_slice(&signed.manifest).unwrap();
        insta::assert_json_snapshot!("signature", manifest);
    }
}
