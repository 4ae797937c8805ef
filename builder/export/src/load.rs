//! Images of the store: as bases of others, and loaded from archives.

use std::collections::BTreeMap;

use kiln_cache::{ImageRecord, Store};
use kiln_execute::{EngineError, Snapshotter, document, now};
use kiln_graph::encode::Encoder;
use kiln_graph::{BlobDigest, Digest, ImageConfig, ImageLayer, Platform};
use kiln_image::{Descriptor, ImageName, Index, Manifest, Reference, Resolved, media_type};
use kiln_solve::EventSink;

use crate::new_tag::NewTag;

/// A tagged image, when the store has all that is needed to build on it, or knows which images of registries
/// have the rest.
///
/// # Errors
/// When the store can't be read.
pub fn stored_image(
    store: &Store,
    name: &str,
    platform: &Platform,
) -> Result<Option<Resolved>, EngineError> {
    let Some((record, image)) = tagged(store, name, platform)? else {
        return Ok(None);
    };
    Ok(is_whole(store, &image, &record.origins)?.then_some(image))
}

/// Whether a store has the layers of an image, but for those that come from other places.
fn is_whole(
    store: &Store,
    image: &Resolved,
    origins: &BTreeMap<BlobDigest, String>,
) -> Result<bool, EngineError> {
    for layer in &image.layers {
        if !origins.contains_key(&layer.blob) && !store.layers().has(layer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A tagged image, of whose layers the store may have none: those of bases and of shared caches' results stay
/// where they are.
///
/// # Errors
/// When the store can't be read.
pub fn tagged_image(
    store: &Store,
    name: &str,
    platform: &Platform,
) -> Result<Option<Resolved>, EngineError> {
    Ok(tagged(store, name, platform)?.map(|(_, image)| image))
}

fn tagged(
    store: &Store,
    name: &str,
    platform: &Platform,
) -> Result<Option<(ImageRecord, Resolved)>, EngineError> {
    let Ok(reference) = name.parse::<Reference>() else {
        return Ok(None);
    };
    let Some(record) = store.images().get(&reference.to_string())? else {
        return Ok(None);
    };
    let Some((digest, manifest)) = manifest_for(store, &record, platform)? else {
        return Ok(None);
    };
    let image = image_of(store, Some(record.digest), digest, &manifest)?;
    Ok(image.map(|image| (record, image)))
}

/// What names of images in registries stood for: digests of what was named, and of the manifest.
const NAMED: &str = "image-name";

type Named = (Option<BlobDigest>, BlobDigest);

fn named_key(name: &str, platform: &Platform) -> Digest {
    let mut out = Encoder::new("kiln-image-name", 1);
    out.str(name).str(&platform.to_string());
    out.finish()
}

/// Notes what a name of an image in a registry stands for.
///
/// # Errors
/// When the store can't be written.
pub fn note_name(
    store: &Store,
    name: &str,
    platform: &Platform,
    image: &Resolved,
) -> Result<(), EngineError> {
    if !matches!(name.parse::<ImageName>(), Ok(ImageName::Registry(_))) {
        return Ok(());
    }
    let key = named_key(name, platform);
    let stands_for: Named = (image.named, image.manifest);
    if store.memos().get::<Named>(NAMED, &key)? != Some(stands_for) {
        store.memos().put(NAMED, &key, &stands_for)?;
    }
    Ok(())
}

/// The image that a name stood for when its registry was asked last, when the store has all its layers.
///
/// # Errors
/// When the store can't be read.
pub fn noted_image(
    store: &Store,
    name: &str,
    platform: &Platform,
) -> Result<Option<Resolved>, EngineError> {
    let key = named_key(name, platform);
    let Some((named, digest)) = store.memos().get::<Named>(NAMED, &key)? else {
        return Ok(None);
    };
    let Some(manifest) = document::<Manifest>(store, &digest)? else {
        return Ok(None);
    };
    let Some(image) = image_of(store, named, digest, &manifest)? else {
        return Ok(None);
    };
    Ok(is_whole(store, &image, &BTreeMap::new())?.then_some(image))
}

/// The layers that a manifest of the store names; nothing when its configuration isn't there.
pub(crate) fn layers_of(
    store: &Store,
    manifest: &Manifest,
) -> Result<Option<Vec<ImageLayer>>, EngineError> {
    let image = image_of(store, None, manifest.config.digest, manifest)?;
    Ok(image.map(|image| image.layers))
}

/// The image that a manifest of the store describes; nothing when its configuration isn't there.
fn image_of(
    store: &Store,
    named: Option<BlobDigest>,
    digest: BlobDigest,
    manifest: &Manifest,
) -> Result<Option<Resolved>, EngineError> {
    let Some(config) = document::<ImageConfig>(store, &manifest.config.digest)? else {
        return Ok(None);
    };
    let layer = |(layer, diff_id): (&Descriptor, &BlobDigest)| layer.image_layer(*diff_id);
    let diff_ids = &config.rootfs.diff_ids;
    let layers: Vec<ImageLayer> = manifest.layers.iter().zip(diff_ids).map(layer).collect();
    Ok(Some(Resolved {
        named,
        manifest: digest,
        config,
        layers,
    }))
}

fn manifest_for(
    store: &Store,
    record: &ImageRecord,
    platform: &Platform,
) -> Result<Option<(BlobDigest, Manifest)>, EngineError> {
    let digest = match record.media_type.as_str() {
        media_type::INDEX | media_type::DOCKER_LIST => {
            let Some(index) = document::<Index>(store, &record.digest)? else {
                return Ok(None);
            };
            let fits = |image: &&Descriptor| {
                image
                    .runs_on()
                    .is_some_and(|own| own.serves(platform).is_some())
            };
            match index.manifests.iter().find(fits) {
                Some(image) => image.digest,
                None => return Ok(None),
            }
        }
        _ => record.digest,
    };
    let manifest = document::<Manifest>(store, &digest)?;
    Ok(manifest.map(|manifest| (digest, manifest)))
}

/// Brings an image into the store under a name: its layers, and a manifest.
///
/// # Errors
/// When it can't be read, or the store can't be written.
pub fn load(
    trees: &Snapshotter,
    image: &str,
    platform: &Platform,
    name: &Reference,
    events: &dyn EventSink,
) -> Result<(), EngineError> {
    let resolved = trees.client.resolve(image, platform)?;
    for layer in &resolved.layers {
        trees.bring(layer, image, events)?;
    }
    if tag_as_it_is(&trees.store, &resolved, name)? {
        return Ok(());
    }
    let tag = NewTag {
        name,
        platform: &resolved.config.platform(),
        annotations: BTreeMap::new(),
    };
    let layers: Vec<&ImageLayer> = resolved.layers.iter().collect();
    tag.write(&trees.store, &resolved.config, &layers)
}

/// Gives an image its name with the very documents that it came with, when they are kept: its digest
/// stays what it is. Whether they were.
fn tag_as_it_is(store: &Store, image: &Resolved, name: &Reference) -> Result<bool, EngineError> {
    let Some(manifest) = document::<Manifest>(store, &image.manifest)? else {
        return Ok(false);
    };
    if store.blobs().get(&manifest.config.digest)?.is_none() {
        return Ok(false);
    }
    let index = image.named.filter(|named| *named != image.manifest);
    let index = match index {
        Some(index) => store.blobs().get(&index)?.map(|blob| blob.digest),
        None => None,
    };
    let own = [image.manifest, manifest.config.digest];
    let layers = manifest.layers.iter();
    let sizes: u64 = layers.clone().map(|layer| layer.size).sum();
    store.images().tag(&ImageRecord {
        name: name.to_string(),
        digest: image.manifest,
        media_type: manifest.kind().to_owned(),
        config: manifest.config.digest,
        platforms: vec![image.config.platform().to_string()],
        size: sizes + manifest.config.size,
        tagged: now().seconds.cast_unsigned(),
        blobs: layers
            .map(|layer| layer.digest)
            .chain(own)
            .chain(index)
            .collect(),
        index,
        origins: BTreeMap::new(),
    })?;
    Ok(true)
}
