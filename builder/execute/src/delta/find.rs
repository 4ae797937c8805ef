//! Looks for a difference from an image that is here to one that is pulled.

use std::sync::Arc;

use kiln_delta::artifact::{ARTIFACT_TYPE, DeltaManifest, Images, SOURCE_CONFIG};
use kiln_graph::{BlobDigest, ImageConfig, ImageLayer};
use kiln_image::{Descriptor, Manifest, Reference, Referrer};
use kiln_solve::{Event, EventSink};

use super::source_tree::{files_here, source_trees};
use super::{OldImage, UsableDelta};
use crate::EngineError;
use crate::document::document;
use crate::single_files::has_layers_of_files;
use crate::snapshotter::Snapshotter;

/// Smaller layers are fetched without looking, in bytes.
const SMALL: u64 = 16 << 10;
/// How many artifacts of one image are looked at.
const MAX_LOOKED_AT: usize = 32;

/// A difference that may be used.
struct Candidate {
    manifest: DeltaManifest,
    /// The old image's, when that is in the store; else its files are the user's directory's.
    old: Option<OldLayers>,
    /// What would be fetched.
    bytes: u64,
}

impl Candidate {
    /// What is known to fit comes first, then what is small.
    fn rank(&self) -> (u8, u64) {
        let doubt = match &self.old {
            Some(old) if old.are_all => 0,
            Some(_) => 1,
            None => 2,
        };
        (doubt, self.bytes)
    }
}

impl Snapshotter {
    /// The difference that a layer may be rebuilt from.
    pub(crate) fn usable_delta(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
    ) -> Option<Arc<UsableDelta>> {
        if layer.size < SMALL {
            return None;
        }
        let image = self.client.image_with_layer(&layer.blob)?;
        let place = self.deltas.looked.place(image.digest?);
        place
            .get_or_init(|| self.find_delta(&image, events))
            .clone()
    }

    fn find_delta(&self, image: &Reference, events: &dyn EventSink) -> Option<Arc<UsableDelta>> {
        let reason = match self.try_find(image, events) {
            Ok(Ok(found)) => return Some(Arc::new(found)),
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let explains = self.deltas.explains()
            && (self.deltas.base.get().is_some() || self.has_earlier(image))
            && !has_layers_of_files(self, image);
        if explains {
            let message = format!("{image} is pulled in whole layers: {reason}");
            events.event(Event::Warning { message });
        }
        None
    }

    /// Whether an image of the same repository is here.
    fn has_earlier(&self, image: &Reference) -> bool {
        let images = self.store.images().all().unwrap_or_default();
        images.iter().any(|record| image.has_beside(&record.name))
    }

    /// The cheapest difference, or why there is none.
    fn try_find(
        &self,
        image: &Reference,
        events: &dyn EventSink,
    ) -> Result<Result<UsableDelta, String>, EngineError> {
        let listed = self.client.artifacts_of(image, ARTIFACT_TYPE)?;
        if listed.is_empty() {
            return Ok(Err("the registry has no differences to it".to_owned()));
        }
        let mut best: Option<Candidate> = None;
        for referrer in listed.iter().take(MAX_LOOKED_AT) {
            let Some(candidate) = self.usable_artifact(image, referrer)? else {
                continue;
            };
            if best
                .as_ref()
                .is_none_or(|best| candidate.rank() < best.rank())
            {
                best = Some(candidate);
            }
        }
        let Some(best) = best else {
            let reason = "no difference to it begins at an image that is here";
            return Ok(Err(reason.to_owned()));
        };
        let old = match (&best.old, self.deltas.base.get()) {
            (None, Some(base)) => base.files.clone(),
            (old, _) => {
                let layers = old.as_ref().map_or(&[][..], |old| &old.layers);
                let trees = source_trees(self, layers, &image.to_string(), events)?;
                Arc::new(OldImage::of(&trees)?)
            }
        };
        Ok(Ok(UsableDelta {
            old,
            manifest: best.manifest,
            image: image.clone(),
        }))
    }

    /// An artifact whose old image is here, or may be what lies in the user's directory.
    fn usable_artifact(
        &self,
        image: &Reference,
        referrer: &Referrer,
    ) -> Result<Option<Candidate>, EngineError> {
        let base = self.deltas.base.get();
        let may_be_directory = base.is_some_and(|base| !base.is_stored);
        // Lists repeat annotations, but need not.
        if let Some(config) = referrer.annotations.get(SOURCE_CONFIG) {
            let Ok(config) = config.parse::<BlobDigest>() else {
                return Ok(None);
            };
            if !may_be_directory && self.store.blobs().get(&config)?.is_none() {
                return Ok(None);
            }
        }
        let bytes = self.client.small_document(image, &referrer.digest, true)?;
        let Ok(manifest) = DeltaManifest::read(&bytes) else {
            return Ok(None);
        };
        let Some(images) = manifest
            .images()
            .ok()
            .filter(|images| Some(images.manifest.digest) == image.digest)
        else {
            return Ok(None);
        };
        // The user's directory has all files; a part of an old image may lack them.
        let old = old_layers(self, &images)?.filter(|old| old.are_all || !may_be_directory);
        if old.is_none() && !may_be_directory {
            return Ok(None);
        }
        Ok(Some(Candidate {
            bytes: self.cost(&manifest)?,
            manifest,
            old,
        }))
    }

    /// The bytes of an artifact that would be fetched.
    fn cost(&self, manifest: &DeltaManifest) -> Result<u64, EngineError> {
        let mut sum = 0;
        for blob in manifest.layer_blobs() {
            if self.store.blobs().get(&blob.digest)?.is_none() {
                sum += blob.size;
            }
        }
        Ok(sum)
    }
}

/// The layers of a difference's old image, lowest first, when all of them are here: unpacked, or as
/// blobs.
///
/// # Errors
/// When the store can't be read.
pub fn layers_here(
    trees: &Snapshotter,
    images: &Images,
) -> Result<Option<Vec<ImageLayer>>, EngineError> {
    let old = old_layers(trees, images)?;
    Ok(old.filter(|old| old.are_all).map(|old| old.layers))
}

/// What is here of an old image's layers.
struct OldLayers {
    /// Lowest first, without a gap, up to the highest.
    layers: Vec<ImageLayer>,
    /// Whether none is missing below them.
    are_all: bool,
}

/// The upper layers of a difference's old image that are here. A mirror lacks those that the daemon had from
/// elsewhere: the base's, of whose files a difference rarely needs one.
fn old_layers(trees: &Snapshotter, images: &Images) -> Result<Option<OldLayers>, EngineError> {
    let Some(config) = document::<ImageConfig>(&trees.store, &images.source_config)? else {
        return Ok(None);
    };
    let manifest = document::<Manifest>(&trees.store, &images.source)?;
    let diff_ids = &config.rootfs.diff_ids;
    let described = manifest.filter(|manifest| {
        manifest.config.digest == images.source_config && manifest.layers.len() == diff_ids.len()
    });
    let mut layers = Vec::new();
    for (number, diff_id) in diff_ids.iter().enumerate() {
        let own = described.as_ref().map(|manifest| &manifest.layers[number]);
        let is_unpacked = files_here(&trees.store, diff_id)?.is_some();
        let is_here = match own {
            _ if is_unpacked => true,
            Some(layer) => trees.store.blobs().get(&layer.digest)?.is_some(),
            None => false,
        };
        if is_here {
            let unknown = Descriptor::new("", *diff_id, 0);
            layers.push(own.unwrap_or(&unknown).image_layer(*diff_id));
        } else if !layers.is_empty() {
            return Ok(None);
        }
    }
    let are_all = layers.len() == diff_ids.len();
    let is_usable = are_all || !layers.is_empty();
    Ok(is_usable.then_some(OldLayers { layers, are_all }))
}
