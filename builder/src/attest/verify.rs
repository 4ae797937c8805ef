//! Checks who vouches for an image in a registry.

use kiln_attest::bundle::is_bundle;
use kiln_attest::{Signed, Verifiers};
use kiln_graph::{BlobDigest, Platform};
use kiln_image::{Client, ImageError, Reference};
use serde::Deserialize;

use super::{AttestationKind, subjects};
use crate::Error;

/// More signatures than this of one manifest are not looked at.
const MAX_BUNDLES: usize = 500;

/// A signed statement that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// What it is about: the image, or the index that names it.
    pub digest: BlobDigest,
    /// What it says, and who signed it.
    pub signed: Signed,
}

impl Verified {
    /// Whether it is of a kind.
    #[must_use]
    pub fn is_of(&self, kind: &AttestationKind) -> bool {
        kind.has(&self.signed.statement.predicate_type)
    }
}

/// The layers of a manifest, as much of it as is needed.
#[derive(Deserialize)]
struct Layers {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: BlobDigest,
}

/// The first of what is wanted that not enough of the signers have signed: a kind, or "it" when
/// nothing at all is.
#[must_use]
pub fn missing_signature(
    verified: &[Verified],
    signers: &Verifiers,
    wanted: &[AttestationKind],
) -> Option<String> {
    let met = |all: &[&Verified]| signers.are_met(all.iter().map(|one| &one.signed));
    if !met(&verified.iter().collect::<Vec<_>>()) {
        return Some("it".to_owned());
    }
    let is_met = |kind: &&AttestationKind| {
        let of_kind: Vec<&Verified> = verified.iter().filter(|one| one.is_of(kind)).collect();
        met(&of_kind)
    };
    let missing = wanted.iter().find(|kind| !is_met(kind));
    missing.map(AttestationKind::to_string)
}

/// The statements about an image that some of the signers have signed, about what its name stands for and about
/// its manifest for a platform. What others have signed, or what can't be read, is told as text.
///
/// # Errors
/// When the image or what refers to it can't be had.
pub fn verify_image(
    client: &Client,
    image: &Reference,
    platform: &Platform,
    signers: &Verifiers,
) -> Result<(Vec<Verified>, Vec<String>), Error> {
    let resolved = client.resolve(&image.to_string(), platform)?;
    let (mut verified, mut refused) = (Vec::new(), Vec::new());
    for digest in subjects(&resolved) {
        for bundle in bundles(client, image, &digest)? {
            match bundle.and_then(|bytes| Ok(signers.verify(&bytes, &digest)?)) {
                Ok(signed) => verified.push(Verified { digest, signed }),
                Err(error) => refused.push(error.to_string()),
            }
        }
    }
    Ok((verified, refused))
}

/// The bundles that refer to a manifest.
fn bundles(
    client: &Client,
    image: &Reference,
    subject: &BlobDigest,
) -> Result<Vec<Result<Vec<u8>, Error>>, Error> {
    let mut found = Vec::new();
    for referrer in client.referrers(image, subject)? {
        if !referrer.artifact_type.as_deref().is_some_and(is_bundle) {
            continue;
        }
        if found.len() == MAX_BUNDLES {
            break;
        }
        found.push(bundle(client, image, &referrer.digest));
    }
    Ok(found)
}

fn bundle(client: &Client, image: &Reference, manifest: &BlobDigest) -> Result<Vec<u8>, Error> {
    let broken = |reason: &str| ImageError::Document {
        image: image.to_string(),
        reason: format!("what refers to it as a signature {reason}"),
    };
    let bytes = client.small_document(image, manifest, true)?;
    let manifest: Layers =
        serde_json::from_slice(&bytes).map_err(|_| broken("can't be understood"))?;
    let mut layers = manifest
        .layers
        .iter()
        .filter(|layer| is_bundle(&layer.media_type));
    let layer = layers.next().ok_or_else(|| broken("has no bundle"))?;
    Ok(client.small_document(image, &layer.digest, false)?)
}
