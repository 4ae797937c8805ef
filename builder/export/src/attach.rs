//! Puts attestations and signatures beside images: into their index, or as what refers to them.

use kiln_attest::artifact::{Artifact, ArtifactDescriptor, MANIFEST_MEDIA_TYPE, index_annotations};
use kiln_cache::Store;
use kiln_execute::{EngineError, Snapshotter};
use kiln_graph::BlobDigest;
use kiln_image::{Descriptor, PushBlob, PushImage, Reference, Referrer};

use crate::assemble::Image;
use crate::stored_blob::stored;

impl Image {
    /// Names the image's manifest as the subject of attestations.
    #[must_use]
    pub fn artifact_subject(&self) -> ArtifactDescriptor {
        let own = &self.descriptor;
        ArtifactDescriptor::new(&own.media_type, own.digest, own.size)
    }

    /// Whether something lies beside it in an index.
    #[must_use]
    pub fn has_attestation(&self) -> bool {
        self.attestation.is_some()
    }

    /// The image without what lies beside it.
    #[must_use]
    pub fn without_attestation(&self) -> Self {
        Self {
            attestation: None,
            ..self.clone()
        }
    }

    /// The entry of its attestation in an index.
    pub(crate) fn attestation_entry(&self) -> Option<Descriptor> {
        let attestation = self.attestation.as_ref()?;
        let unknown = || "unknown".to_owned();
        Some(Descriptor {
            media_type: attestation.descriptor.media_type.clone(),
            digest: attestation.descriptor.digest,
            size: attestation.descriptor.size,
            platform: Some(kiln_image::PlatformDocument {
                architecture: unknown(),
                os: unknown(),
                variant: String::new(),
                os_version: String::new(),
            }),
            annotations: index_annotations(&self.descriptor.digest),
        })
    }

    /// The blobs of its attestation, the manifest first.
    pub(crate) fn attestation_blobs(&self) -> Vec<BlobDigest> {
        let of = |attestation: &Artifact| {
            let blobs = attestation.blobs.iter();
            let blobs = blobs.map(|bytes| BlobDigest::of(bytes));
            std::iter::once(attestation.descriptor.digest)
                .chain(blobs)
                .collect()
        };
        self.attestation.as_ref().map(of).unwrap_or_default()
    }
}

/// Puts an attestation beside an image: from now on an index names both.
///
/// # Errors
/// When it can't be stored.
pub fn attest(store: &Store, image: &mut Image, attestation: Artifact) -> Result<(), EngineError> {
    keep(store, &attestation)?;
    image.attestation = Some(attestation);
    Ok(())
}

/// Sends a referrer of a manifest that a registry has. Where the registry lists no referrers, it is
/// sent only `with_tag`: clients then find it in an index under that tag. Returns whether it was
/// sent.
///
/// # Errors
/// When the registry can't be reached or doesn't take it.
pub fn attach(
    trees: &Snapshotter,
    to: &Reference,
    subject: &BlobDigest,
    artifact: &Artifact,
    with_tag: bool,
) -> Result<bool, EngineError> {
    keep(&trees.store, artifact)?;
    let image = PushImage {
        blobs: push_documents(&trees.store, artifact),
        manifests: Vec::new(),
        top: (artifact.manifest.clone(), MANIFEST_MEDIA_TYPE.to_owned()),
    };
    let referrer = Referrer {
        media_type: artifact.descriptor.media_type.clone(),
        digest: artifact.descriptor.digest,
        size: artifact.descriptor.size,
        artifact_type: artifact.descriptor.artifact_type.clone(),
        annotations: artifact.descriptor.annotations.clone(),
    };
    let client = &trees.client;
    Ok(client.push_referrer(to, subject, &referrer, &image, with_tag, &|_| {})?)
}

fn keep(store: &Store, artifact: &Artifact) -> Result<(), EngineError> {
    let all = artifact.blobs.iter().chain([&artifact.manifest]);
    for bytes in all {
        store.blobs().put(bytes)?;
    }
    Ok(())
}

/// An artifact's blobs, which are in the store.
pub(crate) fn push_documents<'a>(store: &'a Store, artifact: &Artifact) -> Vec<PushBlob<'a>> {
    let blob = |bytes: &Vec<u8>| {
        let digest = BlobDigest::of(bytes);
        PushBlob {
            digest,
            size: bytes.len() as u64,
            mount_from: None,
            file: Box::new(move || stored(store, &digest)),
        }
    };
    let mut blobs: Vec<PushBlob<'a>> = artifact.blobs.iter().map(blob).collect();
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    blobs
}
