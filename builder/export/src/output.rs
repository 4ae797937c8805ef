//! What comes out: archives, directories, registries, names.

use std::collections::BTreeMap;
use std::io::Write;

use kiln_cache::ImageRecord;
use kiln_execute::{EngineError, Snapshotter, now, view_of};
use kiln_graph::{BlobDigest, Entry, Node, Timestamp};
use kiln_image::layer::{EncodeOptions, write_tar};
use kiln_image::{
    ArchiveBlob, ArchiveImage, Descriptor, ImageName, Index, PushBlob, PushImage, Reference, Sent,
    media_type,
};
use kiln_solve::{Event, EventSink, StepResult};
use kiln_tree::TreeRoot;

use crate::assemble::Image;
use crate::attach::push_documents;
use crate::layer_blob::{BlobOrigin, ImageBlob};
use crate::media_types::MediaTypes;
use crate::output_entry::OutputEntry;
use crate::stored_blob::{kept, stored, unavailable};

/// Tells of a blob on its way to a registry; what that has already is no transfer.
pub(crate) fn tell_of_push(to: &Reference, sent: &Sent, events: &dyn EventSink) {
    if sent.bytes > 0 {
        events.event(Event::Transfer {
            name: format!("push {to} {}", &sent.digest.hex()[..12]),
            done: sent.bytes,
            total: Some(sent.size),
            finished: sent.finished,
        });
    }
}

/// The files of a step's result, as one tree.
///
/// # Errors
/// When layers can't be fetched or read.
pub fn files_of(
    trees: &Snapshotter,
    result: Option<&StepResult>,
    events: &dyn EventSink,
) -> Result<Vec<OutputEntry>, EngineError> {
    let stack = trees.trees(&trees.snapshot_or_scratch(result)?, events)?;
    Ok(view_of(&stack)?.flatten())
}

/// Gives finished images away.
#[derive(Debug)]
pub struct Shipper<'a>(pub &'a Snapshotter);

impl Shipper<'_> {
    /// Everything that an archive of images needs.
    ///
    /// # Errors
    /// When layers can't be fetched.
    pub fn archive(
        &self,
        images: &[Image],
        names: &[String],
        events: &dyn EventSink,
    ) -> Result<ArchiveImage, EngineError> {
        let (top, index) = self.top(images)?;
        let mut blobs: Vec<ArchiveBlob> = index.map(ArchiveBlob::Bytes).into_iter().collect();
        for image in images {
            blobs.push(ArchiveBlob::Bytes(image.manifest.clone()));
            blobs.push(ArchiveBlob::Bytes(image.config.clone()));
            if let Some(attestation) = &image.attestation {
                blobs.push(ArchiveBlob::Bytes(attestation.manifest.clone()));
                blobs.extend(attestation.blobs.iter().cloned().map(ArchiveBlob::Bytes));
            }
            for layer in &image.layers {
                let blob = self.layer_file(layer, events)?;
                blobs.push(ArchiveBlob::File {
                    path: blob.path,
                    digest: blob.digest,
                    size: blob.size,
                });
            }
        }
        let first = &images[0];
        Ok(ArchiveImage {
            top,
            blobs,
            names: names.to_vec(),
            config: first.config_descriptor.digest,
            layers: first.layers.iter().map(|layer| layer.blob.blob).collect(),
        })
    }

    /// Brings all layers of images into the store.
    ///
    /// # Errors
    /// When one can't be fetched.
    pub fn bring(&self, images: &[Image], events: &dyn EventSink) -> Result<(), EngineError> {
        let mut layers = images.iter().flat_map(|image| &image.layers);
        layers.try_for_each(|layer| self.layer_file(layer, events).map(drop))
    }

    fn layer_file(
        &self,
        layer: &ImageBlob,
        events: &dyn EventSink,
    ) -> Result<kiln_cache::Blob, EngineError> {
        match &layer.from {
            Some(BlobOrigin::Image(layer, image)) => self.0.blob(layer, image, events),
            Some(BlobOrigin::Remote(distant)) => self.0.distant_layer(distant, events),
            None => kept(&self.0.store, &layer.blob.blob),
        }
    }

    /// What names all images: the only one's manifest, or an index, whose bytes are given.
    ///
    /// # Errors
    /// When the index can't be stored.
    pub fn top(&self, images: &[Image]) -> Result<(Descriptor, Option<Vec<u8>>), EngineError> {
        if let [only] = images
            && only.attestation.is_none()
        {
            return Ok((only.descriptor.clone(), None));
        }
        let around = images.first().map(|image| image.around.clone());
        let around = around.unwrap_or_default();
        let first = images
            .first()
            .map(|image| image.descriptor.media_type.as_str());
        let kind = MediaTypes::index(first.unwrap_or_default());
        let index = Index {
            schema_version: 2,
            media_type: kind.to_owned(),
            manifests: images
                .iter()
                .map(|image| image.descriptor.clone())
                .chain(images.iter().filter_map(Image::attestation_entry))
                .collect(),
            annotations: around.index,
        };
        let bytes = serde_json::to_vec(&index).map_err(|error| EngineError::Output {
            what: "the index".to_owned(),
            source: error.into(),
        })?;
        let blob = self.0.store.blobs().put(&bytes)?;
        let top = Descriptor {
            annotations: around.descriptor,
            ..Descriptor::new(kind, blob.digest, blob.size)
        };
        Ok((top, Some(bytes)))
    }

    /// Gives images a name in the store. Layers that images of registries have may stay there; others are
    /// brought.
    ///
    /// # Errors
    /// When a layer can't be fetched, or the store can't be written.
    pub fn tag(
        &self,
        images: &[Image],
        name: &str,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let origins = self.origins(images, events)?;
        let (top, _) = self.top(images)?;
        let mut blobs = vec![top.digest];
        let mut size = match top.digest == images[0].descriptor.digest {
            true => 0,
            false => top.size,
        };
        for image in images {
            blobs.extend([image.descriptor.digest, image.config_descriptor.digest]);
            blobs.extend(image.layers.iter().map(|layer| layer.blob.blob));
            size += image.size();
            blobs.extend(image.attestation_blobs());
        }
        let platform = |image: &Image| {
            image
                .descriptor
                .runs_on()
                .map(|platform| platform.to_string())
        };
        Ok(self.0.store.images().tag(&ImageRecord {
            name: name.to_owned(),
            digest: top.digest,
            media_type: top.media_type,
            config: images[0].config_descriptor.digest,
            platforms: images.iter().filter_map(platform).collect(),
            size,
            tagged: now().seconds.cast_unsigned(),
            blobs,
            index: None,
            origins,
        })?)
    }

    /// The images of registries that layers are from. A layer that is in none, and not here, is fetched.
    fn origins(
        &self,
        images: &[Image],
        events: &dyn EventSink,
    ) -> Result<BTreeMap<BlobDigest, String>, EngineError> {
        let mut origins = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            match self.origin(layer)? {
                Some(image) => _ = origins.insert(layer.blob.blob, image),
                None => _ = self.layer_file(layer, events)?,
            }
        }
        Ok(origins)
    }

    /// The image of a registry that a layer is from.
    fn origin(&self, layer: &ImageBlob) -> Result<Option<String>, EngineError> {
        match &layer.from {
            Some(BlobOrigin::Image(layer, image)) => self.0.origin(&layer.blob, image),
            Some(BlobOrigin::Remote(distant)) => Ok(distant.repository()),
            None => Ok(None),
        }
    }

    /// Sends images to a registry.
    ///
    /// # Errors
    /// When the registry doesn't take them.
    pub fn push(
        &self,
        images: &[Image],
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let (top, index) = self.top(images)?;
        let mut blobs = Vec::new();
        let mut manifests = Vec::new();
        let has_index = index.is_some();
        for image in images {
            for layer in &image.layers {
                blobs.push(self.push_layer(layer, to, events)?);
            }
            let config = image.config_descriptor.clone();
            let file = move || stored(&self.0.store, &config.digest);
            let (digest, size) = (image.config_descriptor.digest, image.config_descriptor.size);
            blobs.push(PushBlob {
                digest,
                size,
                mount_from: None,
                file: Box::new(file),
            });
            let kind = image.descriptor.media_type.clone();
            manifests.push((image.manifest.clone(), kind));
        }
        for attestation in images.iter().filter_map(|image| image.attestation.as_ref()) {
            blobs.extend(push_documents(&self.0.store, attestation));
            let manifest = attestation.manifest.clone();
            manifests.push((manifest, media_type::MANIFEST.to_owned()));
        }
        let bytes = index.unwrap_or_else(|| images[0].manifest.clone());
        if !has_index {
            manifests.clear();
        }
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        let image = PushImage {
            blobs,
            manifests,
            top: (bytes, top.media_type),
        };
        let tell = |sent: &Sent| tell_of_push(to, sent, events);
        let pushed = self.0.client.push(to, &image, &tell);
        // A registry takes no blob that isn't what its digest says. Looking costs a while, so only
        // then whether it was ours that was damaged.
        pushed.map_err(|error| match self.damaged_blob(images) {
            Some(damage) => damage.into(),
            None => error.into(),
        })
    }

    /// The first blob of images that is not what its digest says.
    fn damaged_blob(&self, images: &[Image]) -> Option<kiln_cache::StoreError> {
        let blobs = images.iter().flat_map(|image| {
            let layers = image.layers.iter().map(|layer| layer.blob.blob);
            layers.chain([image.config_descriptor.digest])
        });
        blobs.into_iter().find_map(|digest| {
            let blob = self.0.store.blobs().get(&digest).ok()??;
            blob.check().err()
        })
    }

    fn push_layer<'a>(
        &'a self,
        layer: &ImageBlob,
        to: &Reference,
        events: &'a dyn EventSink,
    ) -> Result<PushBlob<'a>, EngineError> {
        let from = match (self.origin(layer)?, &layer.from) {
            (None, Some(BlobOrigin::Image(_, image))) => Some(image.clone()),
            (origin, _) => origin,
        };
        let mount_from = from.and_then(|image| mountable(&image, to));
        let (digest, size) = (layer.blob.blob, layer.blob.size);
        let layer = layer.clone();
        let file = move || {
            let found = self.layer_file(&layer, events).map(|blob| blob.path);
            found.map_err(|error| unavailable(&layer.blob.blob, error))
        };
        Ok(PushBlob {
            digest,
            size,
            mount_from,
            file: Box::new(file),
        })
    }
}

/// The repository of the same registry that an image's blobs can be mounted from.
pub(crate) fn mountable(image: &str, to: &Reference) -> Option<String> {
    let Ok(ImageName::Registry(from)) = image.parse::<ImageName>() else {
        return None;
    };
    (from.host == to.host && from.repository != to.repository).then_some(from.repository)
}

/// The same files below a directory.
#[must_use]
pub fn with_prefix(files: &[OutputEntry], prefix: &str) -> Vec<OutputEntry> {
    let prefix = kiln_graph::ImagePath::new(prefix);
    let nowhere = TreeRoot::at("").join(prefix.clone());
    let mut moved = vec![(Entry::directory(prefix.clone()), nowhere)];
    for (entry, place) in files {
        let mut entry = entry.clone();
        entry.path = prefix.join(entry.path.relative_bytes());
        if let Node::HardLink { to } = &mut entry.node {
            *to = prefix.join(to.relative_bytes());
        }
        moved.push((entry, place.clone()));
    }
    moved
}

/// Writes files as a tar, none with a time later than `latest`.
///
/// # Errors
/// When a file can't be read or `out` can't be written.
pub fn write_root_tar(
    files: &[OutputEntry],
    latest: Option<Timestamp>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let entries: Vec<Entry> = files.iter().map(|(entry, _)| entry.clone()).collect();
    let places: BTreeMap<_, _> = files
        .iter()
        .map(|(entry, place)| (&entry.path, place))
        .collect();
    let source = |entry: &Entry| match places.get(&entry.path) {
        Some(place) => place.open_file(),
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let options = EncodeOptions {
        latest,
        ..EncodeOptions::default()
    };
    write_tar(&entries, &source, out, &options)
}
