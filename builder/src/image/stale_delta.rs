//! Differences in a repository that serve nobody any more: those to an image that goes, and those from
//! one that no tag names.

use std::collections::BTreeSet;

use kiln_engine::{DELTA_ARTIFACT, DELTA_SOURCE};
use kiln_graph::BlobDigest;
use kiln_image::{Client, Reference, TaggedManifest};

use super::expire::{Expired, manifests, subject};

/// A difference to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleDelta {
    /// The image that it leads to.
    pub target: BlobDigest,
    /// The artifact's manifest.
    pub artifact: BlobDigest,
}

/// The differences that go with what is expired, or whose old image no kept tag names. What a registry
/// doesn't list stays.
#[must_use]
pub fn stale_deltas(
    client: &Client,
    repository: &Reference,
    all: &[TaggedManifest],
    expired: &Expired,
) -> Vec<StaleDelta> {
    let kept = kept(all, expired);
    let mut stale = Vec::new();
    for target in kept.iter().chain(&expired.manifests).copied() {
        let image = repository.pinned(target);
        for listed in client
            .artifacts_of(&image, DELTA_ARTIFACT)
            .unwrap_or_default()
        {
            let source = listed.annotations.get(DELTA_SOURCE);
            let source = source.and_then(|text| text.parse::<BlobDigest>().ok());
            let is_of_use = kept.contains(&target) && source.is_none_or(|own| kept.contains(&own));
            if !is_of_use {
                let artifact = listed.digest;
                stale.push(StaleDelta { target, artifact });
            }
        }
    }
    stale
}

/// The images that kept tags name, and the parts of their indexes.
fn kept(all: &[TaggedManifest], expired: &Expired) -> BTreeSet<BlobDigest> {
    let stays = |tag: &&TaggedManifest| !expired.tags.contains(tag) && subject(tag).is_none();
    all.iter().filter(stays).flat_map(manifests).collect()
}
