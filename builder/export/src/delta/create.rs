//! Makes the difference between two images.

use kiln_cache::Blob;
use kiln_delta::artifact::{
    Blob as DeltaBlob, DeltaManifest, EMPTY_CONFIG, Images, LayerDelta, MANIFEST,
};
use kiln_delta::{Catalog, Level};
use kiln_execute::delta::{OldImage, source_trees};
use kiln_execute::{EngineError, parallel};
use kiln_graph::{BlobDigest, ImageLayer};
use kiln_image::media_type::CONFIG;
use kiln_image::{Manifest, Resolved};
use kiln_solve::EventSink;
use kiln_tree::host;

use super::layer::{LayerDiffer, MadeLayer};
use super::{Delta, DeltaMaker, DeltaReport};

/// One of the two images.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Where it is.
    pub name: &'a str,
    /// What the name stands for.
    pub image: &'a Resolved,
}

impl DeltaMaker<'_> {
    /// Makes the difference that gives `new` to whoever has `old`. The same images give the same
    /// bytes.
    ///
    /// # Errors
    /// When an image can't be had or read, or the store can't be written.
    pub fn create(
        &self,
        old: Side<'_>,
        new: Side<'_>,
        level: Level,
        events: &dyn EventSink,
    ) -> Result<Delta, EngineError> {
        let diff_ids = &old.image.config.rootfs.diff_ids;
        let is_new = |layer: &&ImageLayer| !diff_ids.contains(&layer.diff_id);
        let missing: Vec<&ImageLayer> = new.image.layers.iter().filter(is_new).collect();
        let (image, catalog) = match missing.is_empty() {
            true => (OldImage::default(), Catalog::default()),
            false => {
                let trees = source_trees(self.0, &old.image.layers, old.name, events)?;
                let image = OldImage::of(&trees)?;
                let catalog = image.catalog();
                (image, catalog)
            }
        };
        let differ = LayerDiffer {
            trees: self.0,
            old: &image,
            catalog: &catalog,
            level,
            events,
        };
        let made = parallel::map(&missing, |layer| differ.layer(layer, new.name))?;
        self.artifact(old.image, new.image, &missing, &made)
    }

    /// Puts the artifact together.
    fn artifact(
        &self,
        old: &Resolved,
        new: &Resolved,
        missing: &[&ImageLayer],
        made: &[MadeLayer],
    ) -> Result<Delta, EngineError> {
        let Documents {
            manifest,
            config,
            kinds: [manifest_kind, config_kind],
        } = self.documents(new)?;
        let old_config = self.documents(old)?.config;
        let images = Images {
            source: old.manifest,
            source_config: old_config.digest,
            manifest: described(&manifest_kind, &manifest),
            config: described(&config_kind, &config),
        };
        let empty = self.0.store.blobs().put(EMPTY_CONFIG)?;
        let layers = layers(new, missing, made);
        let artifact = DeltaManifest::new(&images, empty.digest, &layers);
        let bytes = artifact.bytes().map_err(|error| EngineError::Output {
            what: "the difference".to_owned(),
            source: error.into(),
        })?;
        let stored = self.0.store.blobs().put(&bytes)?;
        let mut blobs = vec![empty, manifest, config];
        blobs.extend(made.iter().map(|made| made.blob.clone()));
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        let report = DeltaReport {
            bytes: stored.size + blobs.iter().map(|blob| blob.size).sum::<u64>(),
            layers: missing.iter().map(|layer| layer.size).sum(),
            changed: missing.len(),
            exact: made.iter().filter(|made| made.is_exact()).count(),
        };
        Ok(Delta {
            manifest: bytes,
            digest: stored.digest,
            images,
            report,
            annotations: artifact.annotations().clone(),
            blobs,
        })
    }

    /// An image's manifest and configuration, as they are in the registry.
    fn documents(&self, image: &Resolved) -> Result<Documents, EngineError> {
        let kept = |digest: &BlobDigest| crate::stored_blob::kept(&self.0.store, digest);
        let manifest = kept(&image.manifest)?;
        let bytes = host::read(&manifest.path).unwrap_or_default();
        let document = serde_json::from_slice::<Manifest>(&bytes);
        let document = document.map_err(|error| EngineError::Output {
            what: format!("the difference: manifest {} is damaged", image.manifest),
            source: error.into(),
        })?;
        let config = kept(&document.config.digest)?;
        let kinds = [
            named(document.media_type, MANIFEST),
            named(document.config.media_type, CONFIG),
        ];
        Ok(Documents {
            manifest,
            config,
            kinds,
        })
    }
}

/// What says what an image is.
struct Documents {
    manifest: Blob,
    config: Blob,
    /// The media types of both, as the manifest says them.
    kinds: [String; 2],
}

/// What becomes of the layers of the new image.
fn layers(new: &Resolved, missing: &[&ImageLayer], made: &[MadeLayer]) -> Vec<LayerDelta> {
    let one = |layer: &ImageLayer| {
        let own = missing
            .iter()
            .position(|missing| missing.blob == layer.blob);
        match own.and_then(|at| made.get(at)) {
            Some(made) => LayerDelta::Made {
                to: layer.blob,
                from: DeltaBlob::new(&made.media_type, made.blob.digest, made.blob.size),
                encoder: made.recipe.clone(),
            },
            None => LayerDelta::Reused {
                blob: layer.blob,
                diff_id: layer.diff_id,
            },
        }
    };
    new.layers.iter().map(one).collect()
}

fn described(media_type: &str, blob: &Blob) -> DeltaBlob {
    DeltaBlob::new(media_type, blob.digest, blob.size)
}

/// A media type, or the usual one where none is said.
fn named(media_type: String, usual: &str) -> String {
    match media_type.is_empty() {
        true => usual.to_owned(),
        false => media_type,
    }
}
