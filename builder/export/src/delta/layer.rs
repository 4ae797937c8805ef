//! The difference of one layer.

use std::io;

use kiln_cache::Blob;
use kiln_delta::format::TAR_DIFF;
use kiln_delta::{Catalog, Level, diff};
use kiln_execute::delta::OldImage;
use kiln_execute::{EngineError, Snapshotter, meter};
use kiln_graph::{BlobDigest, Digest, ImageLayer};
use kiln_image::layer::{Recipe, decompressed};
use kiln_solve::EventSink;
use kiln_tree::host;
use serde::{Deserialize, Serialize};

use crate::layer_blob::oci_media_type;

/// Makes the differences of an image's layers.
pub(super) struct LayerDiffer<'a> {
    pub(super) trees: &'a Snapshotter,
    pub(super) old: &'a OldImage,
    pub(super) catalog: &'a Catalog,
    pub(super) level: Level,
    pub(super) events: &'a dyn EventSink,
}

/// What a layer is made of.
pub(super) struct MadeLayer {
    pub(super) media_type: String,
    /// A tar-diff, or the layer itself.
    pub(super) blob: Blob,
    /// How the tar is compressed, where that is known.
    pub(super) recipe: Option<String>,
}

impl MadeLayer {
    /// Whether it gives the very blob of the layer.
    pub(super) fn is_exact(&self) -> bool {
        self.media_type != TAR_DIFF || self.recipe.is_some()
    }
}

/// Versions that knew fewer encoders kept what they found as `layer-recipe`.
const MEMO: &str = "layer-encoder";

/// What is known of how a blob was compressed.
#[derive(Serialize, Deserialize)]
struct KnownRecipe {
    recipe: Option<String>,
}

impl LayerDiffer<'_> {
    pub(super) fn layer(&self, layer: &ImageLayer, image: &str) -> Result<MadeLayer, EngineError> {
        let whole = self.trees.blob(layer, image, self.events)?;
        let delta = self.tar_diff(&whole)?;
        if delta.size >= whole.size {
            return Ok(MadeLayer {
                media_type: oci_media_type(&layer.media_type),
                blob: whole,
                recipe: None,
            });
        }
        Ok(MadeLayer {
            media_type: TAR_DIFF.to_owned(),
            blob: delta,
            recipe: self.recipe(&whole)?,
        })
    }

    fn tar_diff(&self, whole: &Blob) -> Result<Blob, EngineError> {
        let store = &self.trees.store;
        let name = format!("compare layer {}", &whole.digest.hex()[..12]);
        let meter = meter(store, self.events, name, Some(whole.size));
        let made = || -> io::Result<kiln_cache::BlobWriter> {
            let tar = decompressed(meter.reader(host::open(&whole.path)?))?;
            let out = store.blobs().writer().map_err(io::Error::other)?;
            let out = io::BufWriter::with_capacity(1 << 20, out);
            let (out, _) = diff(tar, self.catalog, self.old, self.level, out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)
        };
        let writer = made().map_err(|source| EngineError::Output {
            what: format!("the difference of layer {}", whole.digest),
            source,
        })?;
        Ok(writer.commit(None)?)
    }

    /// How the layer's blob is compressed again; found once.
    fn recipe(&self, whole: &Blob) -> Result<Option<String>, EngineError> {
        let store = &self.trees.store;
        let key = recipe_key(&whole.digest);
        if let Some(known) = store.memos().get::<KnownRecipe>(MEMO, &key)? {
            return Ok(known.recipe.filter(|text| text.parse::<Recipe>().is_ok()));
        }
        let name = format!("compress layer {} again", &whole.digest.hex()[..12]);
        let meter = meter(store, self.events, name, Some(whole.size));
        let open = || Ok(meter.reader(host::open(&whole.path)?));
        let found = Recipe::of_blob(&whole.digest, &open);
        let recipe = found.map_err(|source| EngineError::Output {
            what: format!("the difference of layer {}", whole.digest),
            source,
        })?;
        let recipe = recipe.map(|recipe| recipe.to_string());
        let known = KnownRecipe {
            recipe: recipe.clone(),
        };
        store.memos().put(MEMO, &key, &known)?;
        Ok(recipe)
    }
}

fn recipe_key(blob: &BlobDigest) -> Digest {
    Digest::from_bytes(*blob.as_bytes())
}
