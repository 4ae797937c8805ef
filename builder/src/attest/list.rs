//! Lists the attestations and signatures of an image in a registry, verified or not.

use std::collections::BTreeMap;

use kiln_attest::artifact::{
    ATTESTATION_TYPE, ArtifactManifest, PREDICATE_ANNOTATION, SIGNED_PREDICATE_ANNOTATION,
};
use kiln_attest::bundle::is_bundle;
use kiln_graph::BlobDigest;
use kiln_image::{Client, Index, Reference, Resolved};
use serde::Serialize;

use super::subjects;
use crate::Error;

/// An attestation or signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedAttestation {
    /// Its manifest.
    pub digest: BlobDigest,
    /// The image or index that it is about.
    pub subject: BlobDigest,
    /// `attestation`, `signature`, or the type of another artifact.
    pub kind: String,
    /// `referrers` or `index`.
    pub storage: &'static str,
    /// The types of its predicates.
    pub predicates: Vec<String>,
}

/// The attestations and signatures that a registry has for an image, by what its name was resolved
/// to. Nothing is verified.
///
/// # Errors
/// When the registry can't be reached or its documents can't be read.
pub fn list_attestations(
    client: &Client,
    image: &Reference,
    resolved: &Resolved,
) -> Result<Vec<ListedAttestation>, Error> {
    let mut all = in_index(client, image, resolved)?;
    for subject in subjects(resolved) {
        for referrer in client.referrers(image, &subject)? {
            let kind = kind(referrer.artifact_type.as_deref().unwrap_or_default());
            let predicates = match referrer.annotations.get(SIGNED_PREDICATE_ANNOTATION) {
                Some(predicate) => vec![predicate.clone()],
                None if kind == "attestation" => predicates(client, image, &referrer.digest)?,
                None => Vec::new(),
            };
            let known = all.iter().any(|one| one.digest == referrer.digest);
            if !known {
                all.push(ListedAttestation {
                    digest: referrer.digest,
                    subject,
                    kind,
                    storage: "referrers",
                    predicates,
                });
            }
        }
    }
    Ok(all)
}

fn kind(artifact_type: &str) -> String {
    match artifact_type {
        ATTESTATION_TYPE => "attestation".to_owned(),
        other if is_bundle(other) => "signature".to_owned(),
        other => other.to_owned(),
    }
}

/// The attestations that lie beside an image in its index.
fn in_index(
    client: &Client,
    image: &Reference,
    resolved: &Resolved,
) -> Result<Vec<ListedAttestation>, Error> {
    let mut all = Vec::new();
    let bytes = client.manifest_bytes(image)?;
    let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
        return Ok(all);
    };
    for entry in index.attestations_of(&resolved.manifest) {
        let bytes = client.small_document(image, &entry.digest, true)?;
        all.push(ListedAttestation::beside(
            resolved.manifest,
            entry.digest,
            &bytes,
        ));
    }
    Ok(all)
}

impl ListedAttestation {
    /// An attestation that lies beside its image, by its manifest.
    #[must_use]
    pub fn beside(subject: BlobDigest, digest: BlobDigest, manifest: &[u8]) -> Self {
        Self {
            digest,
            subject,
            kind: "attestation".to_owned(),
            storage: "index",
            predicates: predicates_of(manifest),
        }
    }
}

/// The types of the statements in an attestation's manifest.
fn predicates(
    client: &Client,
    image: &Reference,
    manifest: &BlobDigest,
) -> Result<Vec<String>, Error> {
    let bytes = client.small_document(image, manifest, true)?;
    Ok(predicates_of(&bytes))
}

fn predicates_of(manifest: &[u8]) -> Vec<String> {
    let layers = serde_json::from_slice::<ArtifactManifest>(manifest);
    let layers = layers.map(|manifest| manifest.layers).unwrap_or_default();
    let predicate =
        |annotations: &BTreeMap<String, String>| annotations.get(PREDICATE_ANNOTATION).cloned();
    layers
        .iter()
        .filter_map(|layer| predicate(&layer.annotations))
        .collect()
}
