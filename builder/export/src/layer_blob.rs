//! Layers as blobs: compressed once, and kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_cache::{LayerBlob, Store};
use kiln_execute::delta::note_files;
use kiln_execute::{Distant, EngineError, Snapshotter, meter};
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Entry, Timestamp, TreeId};
use kiln_image::layer::{Codec, ContentSource, EncodeOptions, encode};
use kiln_solve::{EventSink, LayerRef, Meter};
use kiln_tree::host;

use crate::image_options::ImageOptions;
use crate::layering::{LayerContent, PlannedLayer, content_of};

const MEMO: &str = "layer-blob";

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

/// What a layer's blob is made with.
pub(crate) struct Making<'a> {
    /// What the work is called on displays.
    pub(crate) name: String,
    pub(crate) options: &'a ImageOptions,
    /// Files written since then are known to be whole.
    pub(crate) since: Timestamp,
    pub(crate) events: &'a dyn EventSink,
}

/// A layer as a blob: made once, and kept.
pub(crate) fn layer_blob(
    trees: &Snapshotter,
    layer: &PlannedLayer,
    making: &Making<'_>,
) -> Result<ImageBlob, EngineError> {
    let options = making.options;
    if let PlannedLayer::Stack { layers, .. } = layer
        && let [LayerRef::Image { layer, image }] = &layers[..]
        && !must_recode(options, &layer.media_type)
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
        && let [LayerRef::Tree(id)] = &layers[..]
        && let Some(distant) = trees.distant.get(id)
        && distant.tree.layer.media_type == options.codec.media_type()
        && !options.codec.is_seekable()
        && options.latest().is_none()
    {
        return Ok(ImageBlob {
            blob: distant.tree.layer.clone(),
            from: Some(BlobOrigin::Remote(distant)),
        });
    }
    let blob = own_blob(trees, layer, making)?;
    Ok(ImageBlob { blob, from: None })
}

/// A layer as a blob of this store, compressed here.
pub(crate) fn own_blob(
    trees: &Snapshotter,
    layer: &PlannedLayer,
    making: &Making<'_>,
) -> Result<LayerBlob, EngineError> {
    let content = content_of(trees, layer, making.events)?;
    let key = blob_key(&content.key, making.options);
    let store = &trees.store;
    if let Some(blob) = made_blob(store, &key)? {
        return Ok(blob);
    }
    let blob = encode_layer(store, &content, making)?;
    store.memos().put(MEMO, &key, &blob)?;
    if let PlannedLayer::Stack { layers, .. } = layer
        && let [LayerRef::Tree(id)] = &layers[..]
    {
        note_files(store, &blob.diff_id, id)?;
    }
    Ok(blob)
}

/// The blob of a tree's files as shared caches and clusters have it, where it has been made already.
///
/// # Errors
/// When the store can't be read.
pub fn made_layer(store: &Store, id: &TreeId) -> Result<Option<LayerBlob>, EngineError> {
    // The key of what is one tree: see `content_of`.
    made_blob(store, &blob_key(&id.0, &ImageOptions::default()))
}

/// The blob that was made before under a key, where it is here.
fn made_blob(store: &Store, key: &Digest) -> Result<Option<LayerBlob>, EngineError> {
    let Some(made) = store.memos().get::<LayerBlob>(MEMO, key)? else {
        return Ok(None);
    };
    Ok(store.blobs().get(&made.blob)?.map(|_| made))
}

/// A layer's files, whose bytes count.
struct Measured<'a> {
    content: &'a LayerContent,
    meter: &'a Meter<'a>,
}

impl ContentSource for Measured<'_> {
    fn open(&self, entry: &Entry) -> std::io::Result<std::fs::File> {
        self.content.open(entry)
    }

    fn advance(&self, bytes: u64) -> std::io::Result<()> {
        self.meter.advance(bytes)
    }
}

fn encode_layer(
    store: &Store,
    content: &LayerContent,
    making: &Making<'_>,
) -> Result<LayerBlob, EngineError> {
    let options = making.options;
    let latest = options.latest();
    let size = content.size();
    let meter = meter(store, making.events, making.name.as_str(), Some(size));
    let fail = |source| EngineError::Output {
        what: "a layer".to_owned(),
        source,
    };
    let (path, file) = store.temp_file()?;
    let encoded = encode(
        content.entries(),
        &Measured {
            content,
            meter: &meter,
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
    store.blobs().adopt(&path, encoded.blob, encoded.size)?;
    Ok(LayerBlob {
        blob: encoded.blob,
        size: encoded.size,
        diff_id: encoded.diff_id,
        media_type: options.codec.media_type().to_owned(),
        annotations: encoded.annotations,
    })
}

/// Whether a layer of the base image is to be compressed anew.
fn must_recode(options: &ImageOptions, media_type: &str) -> bool {
    let is_another = oci_media_type(media_type) != options.codec.media_type();
    options.force_compression && (is_another || options.codec.is_seekable())
}

/// Docker's names for layers, in OCI's words: the bytes are the same.
pub(crate) fn oci_media_type(media_type: &str) -> String {
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
