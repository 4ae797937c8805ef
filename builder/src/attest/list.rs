//! Lists the attestations and signatures of an image in a registry, verified or not.

use std::collections::BTreeMap;

use kiln_attest::artifact::{
    ABOUT_ANNOTATION, ATTESTATION_TYPE, ArtifactManifest, PREDICATE_ANNOTATION,
    SIGNED_PREDICATE_ANNOTATION,
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
    let subject = resolved.manifest.to_string();
    for entry in index.manifests {
        if entry.annotations.get(ABOUT_ANNOTATION) == Some(&subject) {
            all.push(ListedAttestation {
                digest: entry.digest,
                subject: resolved.manifest,
                kind: "attestation".to_owned(),
                storage: "index",
                predicates: predicates(client, image, &entry.digest)?,
            });
        }
    }
    Ok(all)
}

/// The types of the statements in an attestation's manifest.
fn predicates(
    client: &Client,
    image: &Reference,
    manifest: &BlobDigest,
) -> Result<Vec<String>, Error> {
    let bytes = client.small_document(image, manifest, true)?;
    let layers = serde_json::from_slice::<ArtifactManifest>(&bytes);
    let layers = layers.map(|manifest| manifest.layers).unwrap_or_default();
    let predicate =
        |annotations: &BTreeMap<String, String>| annotations.get(PREDICATE_ANNOTATION).cloned();
    Ok(layers
        .iter()
        .filter_map(|layer| predicate(&layer.annotations))
        .collect())
}
