//! Differences between images: made, sent, written to a file, and read from one.

mod archive;
mod create;
mod layer;
mod publish;

use std::collections::BTreeMap;

use kiln_cache::Blob;
use kiln_delta::artifact::Images;
use kiln_execute::Snapshotter;
use kiln_graph::BlobDigest;

pub use create::Side;
pub use kiln_delta::Level;

/// Makes differences between images, and does something with them.
#[derive(Clone, Copy, Debug)]
pub struct DeltaMaker<'a>(pub &'a Snapshotter);

/// The difference between two images: an oci-delta artifact whose blobs are in the store.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The artifact's manifest.
    pub manifest: Vec<u8>,
    /// The digest of the artifact's manifest.
    pub digest: BlobDigest,
    /// The images.
    pub images: Images,
    /// What it costs.
    pub report: DeltaReport,
    annotations: BTreeMap<String, String>,
    /// The artifact's blobs, without its manifest.
    blobs: Vec<Blob>,
}

/// What a difference costs, and what it spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaReport {
    /// The bytes of the artifact, its manifest included.
    pub bytes: u64,
    /// The bytes of the layers that the old image lacks.
    pub layers: u64,
    /// How many layers the old image lacks.
    pub changed: usize,
    /// How many of them can be restored to the very blob that the manifest names.
    pub exact: usize,
}

impl DeltaReport {
    /// A difference is worth its place when it spares at least this share of the layers, in percent.
    pub const MIN_SPARED: u64 = 30;

    /// Whether it spares enough.
    #[must_use]
    pub fn is_worth(&self) -> bool {
        self.bytes * 100 <= self.layers * (100 - Self::MIN_SPARED)
    }
}
