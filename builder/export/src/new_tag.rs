//! Names for images that are put together of layers that there are.

use std::collections::BTreeMap;

use kiln_cache::{ImageRecord, Store};
use kiln_execute::{EngineError, now};
use kiln_graph::{ImageConfig, ImageLayer, Platform};
use kiln_image::{Descriptor, Manifest, Reference, media_type};

/// A name that an image is to have in the store.
pub(crate) struct NewTag<'a> {
    pub(crate) name: &'a Reference,
    pub(crate) platform: &'a Platform,
    /// Annotations of its manifest.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl NewTag<'_> {
    /// Stores an image's configuration and manifest under the name; the blobs of its layers are there.
    pub(crate) fn write(
        self,
        store: &Store,
        config: &ImageConfig,
        layers: &[&ImageLayer],
    ) -> Result<(), EngineError> {
        let fail = |error: serde_json::Error| EngineError::Output {
            what: "the manifest".to_owned(),
            source: error.into(),
        };
        let config = store
            .blobs()
            .put(&serde_json::to_vec(config).map_err(fail)?)?;
        let layer =
            |layer: &&ImageLayer| Descriptor::new(&layer.media_type, layer.blob, layer.size);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::new(media_type::CONFIG, config.digest, config.size),
            layers: layers.iter().map(layer).collect(),
            annotations: self.annotations,
        };
        let top = store
            .blobs()
            .put(&serde_json::to_vec(&manifest).map_err(fail)?)?;
        let blobs = manifest.layers.iter().map(|layer| layer.digest);
        let sizes: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
        Ok(store.images().tag(&ImageRecord {
            name: self.name.to_string(),
            digest: top.digest,
            media_type: media_type::MANIFEST.to_owned(),
            config: config.digest,
            platforms: vec![self.platform.to_string()],
            size: sizes + config.size + top.size,
            tagged: now().seconds.cast_unsigned(),
            blobs: blobs.chain([config.digest, top.digest]).collect(),
            index: None,
            origins: BTreeMap::new(),
        })?)
    }
}
