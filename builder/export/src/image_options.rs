//! How images are made.

use kiln_graph::{ImageConfig, Timestamp};
use kiln_image::layer::Codec;
use kiln_share::CacheSigner;

use crate::annotation::Annotations;
use crate::layering::LayerPlan;

/// How images are made.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// The configuration in place of the target's.
    pub config: Option<Box<ImageConfig>>,
    /// Compression of new layers.
    pub codec: Codec,
    /// Whether the base image's layers are compressed anew as well.
    pub force_compression: bool,
    /// Which changes go into which layer.
    pub plan: LayerPlan,
    /// `SOURCE_DATE_EPOCH` in seconds: when the image was made.
    pub epoch: Option<i64>,
    /// Files keep times that are later than the epoch; otherwise they get the epoch's.
    pub keep_late_times: bool,
    /// Whether layers whose late times were changed say so.
    pub marks_rewritten: bool,
    /// Whether manifests have Docker's media types instead of OCI's.
    pub docker_types: bool,
    /// Annotations of its documents.
    pub annotations: Annotations,
    /// Whether its manifest says the fs-verity digest of the EROFS image that its files make.
    pub erofs_verity: bool,
    /// Whether it carries the cache of its own steps.
    pub inline: Option<InlineCache>,
}

/// That an image is to carry the cache of its own steps.
#[derive(Clone, Debug, Default)]
pub struct InlineCache {
    /// Signs the entries.
    pub signer: Option<CacheSigner>,
}

impl ImageOptions {
    /// The latest time that files in new layers may have.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        let epoch = self.epoch.filter(|_| !self.keep_late_times);
        epoch.map(|seconds| Timestamp { seconds, nanos: 0 })
    }
}
