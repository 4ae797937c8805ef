//! Sends images of the store to registries, with what of them never came here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kiln_cache::{Blob, ImageRecord};
use kiln_execute::{EngineError, Snapshotter};
use kiln_graph::{BlobDigest, ImageLayer};
use kiln_image::{ImageError, Manifest, PushBlob, PushImage, Reference, Sent};
use kiln_solve::EventSink;
use kiln_tree::host;

use crate::load::layers_of;
use crate::output::{mountable, tell_of_push};
use crate::stored_blob::{kept, unavailable};

/// No document is larger, in bytes: so much is read into memory.
const MAX_DOCUMENT: u64 = 1 << 20;

/// Sends an image of the store to its registry. Layers that aren't here are mounted from where they are, or
/// fetched.
///
/// # Errors
/// When a layer is nowhere to be had, or the registry doesn't take the image.
pub fn push_stored(
    trees: &Snapshotter,
    image: &ImageRecord,
    to: &Reference,
    events: &dyn EventSink,
) -> Result<(), EngineError> {
    let pusher = Pusher {
        trees,
        image,
        to,
        events,
    };
    let top = read(&kept(&trees.store, &image.digest)?)?;
    let mut manifests = BTreeMap::new();
    let mut others = BTreeSet::new();
    for digest in &image.blobs {
        match pusher.manifest(digest)? {
            Some(found) => _ = manifests.insert(*digest, found),
            None => _ = others.insert(*digest),
        }
    }
    let layers = pusher.layers(manifests.values().map(|(manifest, _)| manifest))?;
    let is_part = |digest: &&BlobDigest| **digest != image.digest && Some(**digest) != image.index;
    let blobs = others.iter().filter(is_part);
    let blobs = blobs.map(|digest| pusher.blob(digest, layers.get(digest)));
    let blobs = blobs.collect::<Result<Vec<_>, _>>()?;
    _ = manifests.remove(&image.digest);
    let image = PushImage {
        blobs,
        manifests: manifests.into_values().map(typed).collect(),
        top: (top, image.media_type.clone()),
    };
    let tell = |sent: &Sent| tell_of_push(to, sent, events);
    Ok(trees.client.push(to, &image, &tell)?)
}

struct Pusher<'a> {
    trees: &'a Snapshotter,
    image: &'a ImageRecord,
    to: &'a Reference,
    events: &'a dyn EventSink,
}

impl<'a> Pusher<'a> {
    /// The manifest that a blob is, and its bytes.
    fn manifest(&self, digest: &BlobDigest) -> Result<Option<(Manifest, Vec<u8>)>, EngineError> {
        let blob = self.trees.store.blobs().get(digest)?;
        let Some(blob) = blob.filter(|blob| blob.size < MAX_DOCUMENT) else {
            return Ok(None);
        };
        let bytes = read(&blob)?;
        let manifest = serde_json::from_slice::<Manifest>(&bytes).ok();
        Ok(manifest.map(|manifest| (manifest, bytes)))
    }

    /// The layers that manifests name.
    fn layers<'m>(
        &self,
        manifests: impl Iterator<Item = &'m Manifest>,
    ) -> Result<BTreeMap<BlobDigest, ImageLayer>, EngineError> {
        let mut layers = BTreeMap::new();
        for manifest in manifests {
            let own = layers_of(&self.trees.store, manifest)?.unwrap_or_default();
            layers.extend(own.into_iter().map(|layer| (layer.blob, layer)));
        }
        Ok(layers)
    }

    /// A layer or a configuration.
    fn blob(
        &self,
        digest: &BlobDigest,
        layer: Option<&ImageLayer>,
    ) -> Result<PushBlob<'a>, EngineError> {
        let origin = self.image.origins.get(digest);
        let mount_from = origin.and_then(|origin| mountable(origin, self.to));
        if let Some(blob) = self.trees.store.blobs().get(digest)? {
            return Ok(PushBlob {
                digest: *digest,
                size: blob.size,
                mount_from,
                file: Box::new(move || Ok(blob.path.clone())),
            });
        }
        let (Some(origin), Some(layer)) = (origin, layer) else {
            return Err(EngineError::Refused(format!(
                "blob {digest} of {} was never fetched, and nothing says where it is: build the image again",
                self.image.name
            )));
        };
        let (trees, events) = (self.trees, self.events);
        let (origin, layer) = (origin.clone(), layer.clone());
        Ok(PushBlob {
            digest: *digest,
            size: layer.size,
            mount_from,
            file: Box::new(move || fetched(trees, &layer, &origin, events)),
        })
    }
}

fn fetched(
    trees: &Snapshotter,
    layer: &ImageLayer,
    image: &str,
    events: &dyn EventSink,
) -> Result<PathBuf, ImageError> {
    let blob = trees.blob(layer, image, events);
    let path = blob.map(|blob| blob.path);
    path.map_err(|error| unavailable(&layer.blob, &error))
}

/// A manifest's bytes and its media type.
fn typed((manifest, bytes): (Manifest, Vec<u8>)) -> (Vec<u8>, String) {
    (bytes, manifest.kind().to_owned())
}

fn read(blob: &Blob) -> Result<Vec<u8>, EngineError> {
    host::read(&blob.path).map_err(|source| {
        EngineError::Image(ImageError::Io {
            what: blob.digest.to_string(),
            source,
        })
    })
}
