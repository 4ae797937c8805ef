//! Makes images of solved builds: which changes go into which layer, the layers' blobs, the
//! configuration and the manifest.

use kiln_cache::LayerBlob;
use kiln_graph::encode::Encoder;
use kiln_graph::{
    BlobDigest, Digest, Entry, History, HistoryLine, ImageConfig, LayerOrigin, Op, StepId, Target,
    Timestamp, TreeId,
};
use kiln_image::layer::{Codec, EncodeOptions, encode};
use kiln_image::{Descriptor, Manifest, media_type};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::layers::view_of;
use crate::snapshot::{LayerRef, Snapshot, StepResult};
use crate::solve::Solved;
use crate::{EngineError, EventSink, parallel};

/// Which changes go into which layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerPlan {
    /// A layer for each step.
    #[default]
    PerStep,
    /// The base image's layers, and one more with all changes.
    Squash,
    /// One layer in all.
    Flat,
}

/// How images are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Compression of new layers.
    pub codec: Codec,
    /// Whether layers of the base image are compressed anew when theirs differs.
    pub plan: LayerPlan,
    /// `SOURCE_DATE_EPOCH` in seconds: no time in the image is later.
    pub epoch: Option<i64>,
}

/// A layer of a finished image.
#[derive(Clone, Debug)]
pub(crate) struct ImageBlob {
    pub(crate) blob: LayerBlob,
    /// The image it was taken from, whose registry may still be the only one to have it.
    pub(crate) from: Option<(kiln_graph::ImageLayer, String)>,
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
        let snapshot = self.snapshot(target.root)?;
        let (layers, history) = self.plan(target, &snapshot, options.plan);
        let blobs = parallel::map(&layers, |layer| self.layer_blob(layer, options, events))?;
        let config = self.config(target, &blobs, history, options)?;
        self.manifest(&config, blobs)
    }

    pub(crate) fn snapshot(&self, step: StepId) -> Result<Snapshot, EngineError> {
        match self.results.get(&step) {
            Some(StepResult::Snapshot(snapshot)) => Ok(snapshot.clone()),
            Some(StepResult::Folder(folder)) => {
                let tree =
                    crate::context::import(&self.engine, folder, &kiln_graph::ImagePath::root())?;
                Ok(Snapshot::new(vec![LayerRef::Tree(tree.id())], None))
            }
            None => Ok(Snapshot::scratch()),
        }
    }

    /// What goes into each layer, and the history that fits.
    fn plan(
        &self,
        target: &Target,
        snapshot: &Snapshot,
        plan: LayerPlan,
    ) -> (Vec<Vec<LayerRef>>, Vec<History>) {
        let one_each: Vec<Vec<LayerRef>> = snapshot
            .layers()
            .iter()
            .map(|layer| vec![layer.clone()])
            .collect();
        let base = snapshot
            .layers()
            .iter()
            .take_while(|layer| matches!(layer, LayerRef::Image { .. }))
            .count();
        match plan {
            LayerPlan::PerStep => {
                let history = self.history(target, snapshot.layers().len());
                (one_each, history)
            }
            LayerPlan::Squash => {
                let mut layers = one_each;
                let rest: Vec<LayerRef> = layers.drain(base..).flatten().collect();
                let lines = self.joined_history(target, base, !rest.is_empty());
                layers.extend((!rest.is_empty()).then_some(rest));
                (layers, lines)
            }
            LayerPlan::Flat => {
                let all: Vec<LayerRef> = one_each.into_iter().flatten().collect();
                let lines = self.joined_history(target, 0, !all.is_empty());
                (
                    if all.is_empty() {
                        Vec::new()
                    } else {
                        vec![all]
                    },
                    lines,
                )
            }
        }
    }

    /// One line for each instruction, and one more for each layer that no line speaks of.
    fn history(&self, target: &Target, layers: usize) -> Vec<History> {
        let mut told = 0;
        let mut history = Vec::new();
        for line in &target.history {
            let count = match line.layer {
                LayerOrigin::None => 0,
                LayerOrigin::Base => 1,
                LayerOrigin::Step(step) => self.layers_added(step),
            };
            told += count;
            history.push(entry(line, count == 0));
            history.extend((1..count).map(|_| entry(line, false)));
        }
        for _ in told..layers {
            let unnamed = History {
                created_by: "base".to_owned(),
                ..History::default()
            };
            history.insert(0, unnamed);
        }
        history
    }

    /// The base's `kept` layers as they were, then all lines, the last one with the joined layer.
    fn joined_history(&self, target: &Target, kept: usize, joined: bool) -> Vec<History> {
        let mut left = kept;
        let mut history: Vec<History> = Vec::new();
        for line in &target.history {
            let own = line.layer == LayerOrigin::Base && left > 0;
            left -= usize::from(own);
            history.push(entry(line, !own));
        }
        if joined {
            let created_by = "kiln: joined layers".to_owned();
            history.push(History {
                created_by,
                ..History::default()
            });
        }
        history
    }

    fn layers_added(&self, step: StepId) -> usize {
        let graph = &self.build.graph;
        let base = match &graph.step(step).op {
            Op::Exec(exec) => Some(exec.root),
            Op::Files(files) => files.base,
            Op::Merge { layers } => layers.first().copied(),
            _ => None,
        };
        let count = |step: StepId| match self.results.get(&step) {
            Some(StepResult::Snapshot(snapshot)) => snapshot.layers().len(),
            Some(StepResult::Folder(_)) => 1,
            None => 0,
        };
        let below = base.map_or(0, |base| count(graph.input(step, base)));
        count(step).saturating_sub(below)
    }

    fn layer_blob(
        &self,
        layer: &[LayerRef],
        options: &ImageOptions,
        events: &dyn EventSink,
    ) -> Result<ImageBlob, EngineError> {
        if let [LayerRef::Image { layer, image }] = layer {
            let blob = LayerBlob {
                blob: layer.blob,
                size: layer.size,
                diff_id: layer.diff_id,
                media_type: oci_media_type(&layer.media_type),
            };
            return Ok(ImageBlob {
                blob,
                from: Some((layer.clone(), image.to_string())),
            });
        }
        let trees = self
            .engine
            .trees(&Snapshot::new(layer.to_vec(), None), events)?;
        let ids: Vec<TreeId> = trees.iter().map(kiln_cache::Tree::id).collect();
        let key = blob_key(&ids, options);
        let store = &self.engine.store;
        if let Some(blob) = store.memo::<LayerBlob>("layer-blob", &key)?
            && store.blob(&blob.blob)?.is_some()
        {
            return Ok(ImageBlob { blob, from: None });
        }
        let blob = self.encode(&trees, options)?;
        store.put_memo("layer-blob", &key, &blob)?;
        Ok(ImageBlob { blob, from: None })
    }

    fn encode(
        &self,
        trees: &[kiln_cache::Tree],
        options: &ImageOptions,
    ) -> Result<LayerBlob, EngineError> {
        let over_base = options.plan != LayerPlan::Flat;
        let latest = options.epoch.map(|seconds| Timestamp { seconds, nanos: 0 });
        let fail = |source| EngineError::Output {
            what: "a layer".to_owned(),
            source,
        };
        let (path, file) = self.engine.store.temp_file()?;
        let encoded = match trees {
            [only] => {
                let (manifest, fs) = (only.manifest()?, only.fs());
                let source = |entry: &Entry| std::fs::File::open(entry.path.under(&fs));
                encode(
                    manifest.entries(),
                    &source,
                    options.codec,
                    file,
                    &EncodeOptions { latest },
                )
            }
            several => {
                let (entries, files): (Vec<Entry>, Vec<_>) = if over_base {
                    view_of(several)?.squash()
                } else {
                    view_of(several)?.flatten()
                }
                .into_iter()
                .unzip();
                let places: std::collections::BTreeMap<_, _> = entries
                    .iter()
                    .map(|entry| &entry.path)
                    .zip(&files)
                    .collect();
                let source = |entry: &Entry| match places.get(&entry.path) {
                    Some(path) => std::fs::File::open(path),
                    None => Err(std::io::ErrorKind::NotFound.into()),
                };
                encode(
                    &entries,
                    &source,
                    options.codec,
                    file,
                    &EncodeOptions { latest },
                )
            }
        };
        let encoded = encoded
            .inspect_err(|_| _ = std::fs::remove_file(&path))
            .map_err(fail)?;
        self.engine
            .store
            .adopt_blob(&path, encoded.blob, encoded.size)?;
        Ok(LayerBlob {
            blob: encoded.blob,
            size: encoded.size,
            diff_id: encoded.diff_id,
            media_type: options.codec.media_type().to_owned(),
        })
    }

    fn config(
        &self,
        target: &Target,
        blobs: &[ImageBlob],
        history: Vec<History>,
        options: &ImageOptions,
    ) -> Result<ImageConfig, EngineError> {
        let mut config = target.config.clone();
        let seconds = options.epoch.unwrap_or_else(now);
        let now = OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        if config.created.is_none() {
            config.created.clone_from(&now);
        }
        config.history = history;
        for line in config
            .history
            .iter_mut()
            .filter(|line| line.created.is_none())
        {
            line.created.clone_from(&config.created);
        }
        config.rootfs.diff_ids = blobs.iter().map(|layer| layer.blob.diff_id).collect();
        Ok(config)
    }

    fn manifest(&self, config: &ImageConfig, layers: Vec<ImageBlob>) -> Result<Image, EngineError> {
        let platform = config.platform();
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
            annotations: std::collections::BTreeMap::new(),
        };
        let store = &self.engine.store;
        let stored = store.put_blob(&config)?;
        let config_descriptor = describe(media_type::CONFIG, stored.digest, stored.size);
        let layer =
            |layer: &ImageBlob| describe(&layer.blob.media_type, layer.blob.blob, layer.blob.size);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: config_descriptor.clone(),
            layers: layers.iter().map(layer).collect(),
            annotations: std::collections::BTreeMap::new(),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(fail)?;
        let stored = store.put_blob(&manifest)?;
        let mut descriptor = describe(media_type::MANIFEST, stored.digest, stored.size);
        descriptor.platform = Some((&platform).into());
        Ok(Image {
            config,
            manifest,
            descriptor,
            config_descriptor,
            layers,
        })
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn entry(line: &HistoryLine, empty_layer: bool) -> History {
    History {
        created: line.created.clone(),
        created_by: line.created_by.clone(),
        author: line.author.clone(),
        comment: line.comment.clone(),
        empty_layer,
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

fn blob_key(trees: &[TreeId], options: &ImageOptions) -> Digest {
    let mut out = Encoder::new("kiln-layer-blob", 1);
    out.seq(trees, |out, tree| {
        out.digest(&tree.0);
    });
    out.bool(options.plan == LayerPlan::Flat);
    out.str(&options.codec.cache_key())
        .option(options.epoch, |out, epoch| {
            out.i64(epoch);
        });
    out.finish()
}
