//! Makes images of solved builds: which changes go into which layer, the layers' blobs, the
//! configuration and the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_attest::artifact::Artifact;
use kiln_cache::LayerBlob;
use kiln_graph::encode::Encoder;
use kiln_graph::{BlobDigest, Digest, Entry, History, ImageConfig, StepId, Target, Timestamp};
use kiln_image::layer::{Codec, EncodeOptions, encode};
use kiln_image::{Descriptor, Manifest};
use kiln_tree::host;

use crate::engine::Engine;
use crate::export::annotation::{Annotations, IndexAnnotations};
use crate::export::layering::{LayerContent, LayerPlan, PlannedLayer, content_size};
use crate::export::media_types::MediaTypes;
use crate::share::{Distant, InlineCache};
use crate::solve::scheduler::Solved;
use crate::solve::snapshot::{LayerRef, Snapshot, StepResult};
use crate::{EngineError, EventSink, parallel};

/// How images are made.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
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
    /// Whether manifests have Docker's media types instead of OCI's.
    pub docker_types: bool,
    /// Annotations of its documents.
    pub annotations: Annotations,
    /// Whether it carries the cache of its own steps.
    pub inline: Option<InlineCache>,
}

/// A layer of a finished image.
#[derive(Clone, Debug)]
pub(crate) struct ImageBlob {
    pub(crate) blob: LayerBlob,
    /// Where it was taken from, which may still be the only place that has it.
    pub(crate) from: Option<BlobOrigin>,
}

/// Where a layer's blob can be had.
#[derive(Clone, Debug)]
pub(crate) enum BlobOrigin {
    /// With an image.
    Image(kiln_graph::ImageLayer, String),
    /// On a remote.
    Remote(Arc<Distant>),
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The configuration document's bytes.
    pub config: Vec<u8>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Names the manifest.
    pub descriptor: Descriptor,
    /// Names the configuration.
    pub config_descriptor: Descriptor,
    pub(crate) layers: Vec<ImageBlob>,
    /// What is said of an index that names it beside others.
    pub(crate) around: IndexAnnotations,
    /// What lies beside it in an index.
    pub(crate) attestation: Option<Artifact>,
}

impl Solved {
    /// Makes the image of one target.
    ///
    /// # Errors
    /// When layers can't be read, compressed or stored.
    pub fn image(
        &self,
        target: &Target,
        options: &ImageOptions,
        events: &dyn EventSink,
    ) -> Result<Image, EngineError> {
        let target = &self.dated(target, options.epoch);
        let snapshot = self.snapshot(target.root)?;
        let (layers, history) = self.plan(target, &snapshot, &options.plan, events)?;
        let numbered: Vec<(usize, &PlannedLayer)> = layers.iter().enumerate().collect();
        let blobs = parallel::map(&numbered, |(number, layer)| {
            let name = format!("compress layer {} of {}", number + 1, layers.len());
            let made = Making {
                name,
                options,
                since: self.started,
                events,
            };
            self.engine.layer_blob(layer, &made)
        })?;
        let mut config = configuration(target, &blobs, history);
        config.inline_cache = self.inline_cache(&layers, &blobs, options, events)?;
        self.manifest(&config, blobs, options)
    }

    pub(crate) fn snapshot(&self, step: StepId) -> Result<Snapshot, EngineError> {
        match self.results.get(&step) {
            Some(StepResult::Snapshot(snapshot)) => Ok(snapshot.clone()),
            Some(StepResult::Folder(folder)) => {
                let tree = crate::execute::source::context::import(
                    &self.engine,
                    folder,
                    &kiln_graph::ImagePath::root(),
                )?;
                Ok(Snapshot::new(vec![LayerRef::Tree(tree.id())], None))
            }
            None => Ok(Snapshot::scratch()),
        }
    }

    fn manifest(
        &self,
        config: &ImageConfig,
        layers: Vec<ImageBlob>,
        options: &ImageOptions,
    ) -> Result<Image, EngineError> {
        let platform = config.platform();
        let types = MediaTypes::of(options);
        let fail = |error: serde_json::Error| EngineError::Output {
            what: "the manifest".to_owned(),
            source: error.into(),
        };
        let config = serde_json::to_vec(config).map_err(fail)?;
        let describe = |media_type: &str, digest: BlobDigest, size: u64| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let store = &self.engine.store;
        let stored = store.put_blob(&config)?;
        let config_descriptor = describe(types.config, stored.digest, stored.size);
        let layer = |layer: &ImageBlob| {
            let LayerBlob { blob, size, .. } = layer.blob;
            Descriptor {
                annotations: layer.blob.annotations.clone(),
                ..describe(&types.layer(&layer.blob.media_type), blob, size)
            }
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: types.manifest.to_owned(),
            config: config_descriptor.clone(),
            layers: layers.iter().map(layer).collect(),
            annotations: options.annotations.of_manifest(&platform),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(fail)?;
        let stored = store.put_blob(&manifest)?;
        let mut descriptor = describe(types.manifest, stored.digest, stored.size);
        descriptor.platform = Some((&platform).into());
        descriptor.annotations = options.annotations.of_manifest_descriptor(&platform);
        Ok(Image {
            config,
            manifest,
            descriptor,
            config_descriptor,
            layers,
            around: options.annotations.of_index(),
            attestation: None,
        })
    }
}

/// What a layer's blob is made with.
pub(crate) struct Making<'a> {
    /// What the work is called on displays.
    pub(crate) name: String,
    pub(crate) options: &'a ImageOptions,
    /// Files written since then are known to be whole.
    pub(crate) since: Timestamp,
    pub(crate) events: &'a dyn EventSink,
}

impl Engine {
    /// A layer as a blob: made once, and kept.
    pub(crate) fn layer_blob(
        &self,
        layer: &PlannedLayer,
        making: &Making<'_>,
    ) -> Result<ImageBlob, EngineError> {
        let options = making.options;
        if let PlannedLayer::Stack { layers, .. } = layer
            && let [LayerRef::Image { layer, image }] = &layers[..]
            && !options.must_recode(&layer.media_type)
        {
            let blob = LayerBlob {
                blob: layer.blob,
                size: layer.size,
                diff_id: layer.diff_id,
                media_type: oci_media_type(&layer.media_type),
                annotations: BTreeMap::new(),
            };
            return Ok(ImageBlob {
                blob,
                from: Some(BlobOrigin::Image(layer.clone(), image.to_string())),
            });
        }
        if let PlannedLayer::Stack { layers, .. } = layer
            && let [LayerRef::Distant(distant)] = &layers[..]
            && distant.tree.layer.media_type == options.codec.media_type()
            && !options.codec.is_seekable()
            && options.latest().is_none()
        {
            return Ok(ImageBlob {
                blob: distant.tree.layer.clone(),
                from: Some(BlobOrigin::Remote(distant.clone())),
            });
        }
        let content = self.content(layer, making.events)?;
        let key = blob_key(&content.key, options);
        let store = &self.store;
        if let Some(blob) = store.memo::<LayerBlob>("layer-blob", &key)?
            && store.blob(&blob.blob)?.is_some()
        {
            return Ok(ImageBlob { blob, from: None });
        }
        let blob = self.encode(&content, making)?;
        store.put_memo("layer-blob", &key, &blob)?;
        Ok(ImageBlob { blob, from: None })
    }

    fn encode(
        &self,
        content: &LayerContent,
        making: &Making<'_>,
    ) -> Result<LayerBlob, EngineError> {
        let options = making.options;
        let latest = options.latest();
        let meter = self.meter(making.events, making.name.as_str(), Some(content.size()));
        let fail = |source| EngineError::Output {
            what: "a layer".to_owned(),
            source,
        };
        let (path, file) = self.store.temp_file()?;
        let encoded = encode(
            content.entries(),
            &|entry: &Entry| {
                meter.advance(content_size(entry))?;
                content.open(entry)
            },
            options.codec,
            file,
            &EncodeOptions {
                latest,
                fresh_since: Some(making.since),
            },
        );
        let encoded = encoded
            .inspect_err(|_| _ = host::remove_file(&path))
            .map_err(fail)?;
        self.store.adopt_blob(&path, encoded.blob, encoded.size)?;
        Ok(LayerBlob {
            blob: encoded.blob,
            size: encoded.size,
            diff_id: encoded.diff_id,
            media_type: options.codec.media_type().to_owned(),
            annotations: encoded.annotations,
        })
    }
}

/// An image's configuration. Lines of the history that speak of no step have the image's time.
fn configuration(target: &Target, blobs: &[ImageBlob], history: Vec<History>) -> ImageConfig {
    let mut config = target.config.clone();
    config.history = history;
    let undated = config.history.iter_mut();
    for line in undated.filter(|line| line.created.is_none()) {
        line.created.clone_from(&config.created);
    }
    config.rootfs.diff_ids = blobs.iter().map(|layer| layer.blob.diff_id).collect();
    config
}

impl Image {
    /// The lengths of the layers' blobs in bytes, lowest first.
    #[must_use]
    pub fn layer_sizes(&self) -> Vec<u64> {
        self.layers.iter().map(|layer| layer.blob.size).collect()
    }
}

impl ImageOptions {
    /// The latest time that files in new layers may have.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        let epoch = self.epoch.filter(|_| !self.keep_late_times);
        epoch.map(|seconds| Timestamp { seconds, nanos: 0 })
    }

    /// Whether a layer of the base image is to be compressed anew.
    fn must_recode(&self, media_type: &str) -> bool {
        let is_another = oci_media_type(media_type) != self.codec.media_type();
        self.force_compression && (is_another || self.codec.is_seekable())
    }
}

/// Docker's names for layers, in OCI's words: the bytes are the same.
fn oci_media_type(media_type: &str) -> String {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Codec::Gzip(6).media_type().to_owned()
        }
        "application/vnd.docker.image.rootfs.diff.tar" => {
            Codec::Uncompressed.media_type().to_owned()
        }
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Codec::Zstd(3).media_type().to_owned()
        }
        other => other.to_owned(),
    }
}

fn blob_key(content: &Digest, options: &ImageOptions) -> Digest {
    let mut out = Encoder::new("kiln-layer-blob", 2);
    out.digest(content);
    out.str(&options.codec.cache_key())
        .option(options.latest(), |out, latest| {
            out.i64(latest.seconds);
        });
    out.finish()
}
