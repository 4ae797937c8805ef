//! Differences as files: an OCI layout in a tar, whose only manifest is the artifact's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use kiln_cache::ImageRecord;
use kiln_delta::artifact::{Blob as DeltaBlob, DeltaManifest, Images, MANIFEST};
use kiln_execute::delta::{OldImage, Rebuild, layers_here, source_trees};
use kiln_execute::{EngineError, now};
use kiln_graph::{BlobDigest, ImageConfig, ImageLayer};
use kiln_image::{ArchiveBlob, ArchiveImage, Descriptor, ImageError, Manifest, Reference};
use kiln_solve::EventSink;
use kiln_tree::host;

use super::{Delta, DeltaMaker};

impl DeltaMaker<'_> {
    /// Everything that a file with a difference needs; `name` is the new image's.
    #[must_use]
    pub fn archive(&self, delta: &Delta, name: &str) -> ArchiveImage {
        let size = delta.manifest.len() as u64;
        let file = |blob: &kiln_cache::Blob| ArchiveBlob::File {
            path: blob.path.clone(),
            digest: blob.digest,
            size: blob.size,
        };
        let own = ArchiveBlob::Bytes(delta.manifest.clone());
        ArchiveImage {
            top: Descriptor::new(MANIFEST, delta.digest, size),
            blobs: std::iter::once(own)
                .chain(delta.blobs.iter().map(file))
                .collect(),
            names: vec![name.to_owned()],
            config: delta.images.config.digest,
            layers: Vec::new(),
        }
    }

    /// Brings the new image of a difference into the store under a name. `archive` is where its blobs
    /// are, `manifest` the artifact's. Nothing is fetched.
    ///
    /// # Errors
    /// When the old image isn't here, or the difference can't be applied or gives something else.
    pub fn load(
        &self,
        archive: &str,
        manifest: &[u8],
        name: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let artifact = DeltaManifest::read(manifest).map_err(|error| unusable(archive, &error))?;
        let images = artifact
            .images()
            .map_err(|error| unusable(archive, &error))?;
        let Some(layers) = layers_here(self.0, &images)? else {
            return Err(missing(format!(
                "{archive} is a difference from an image that is not here: pull the image with the configuration {} first, or load the whole image",
                images.source_config
            )));
        };
        let source = images.source.to_string();
        let trees = source_trees(self.0, &layers, &source, events)?;
        let loading = Loading {
            maker: self,
            archive,
            old: OldImage::of(&trees)?,
            artifact,
            images,
        };
        loading.run(name, events)
    }
}

/// A difference that is being loaded.
struct Loading<'a> {
    maker: &'a DeltaMaker<'a>,
    archive: &'a str,
    old: OldImage,
    artifact: DeltaManifest,
    images: Images,
}

impl Loading<'_> {
    fn run(&self, name: &Reference, events: &dyn EventSink) -> Result<(), EngineError> {
        let (manifest, config) = self.documents()?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.layer(&layer.image_layer(*diff_id), events)?;
        }
        let layers = manifest.layers.iter();
        let sizes: u64 = layers.clone().map(|layer| layer.size).sum();
        let own = [self.images.manifest.digest, self.images.config.digest];
        let blobs: BTreeSet<BlobDigest> = layers.map(|layer| layer.digest).chain(own).collect();
        Ok(self.maker.0.store.images().tag(&ImageRecord {
            name: name.to_string(),
            digest: self.images.manifest.digest,
            media_type: self.images.manifest.media_type.clone(),
            config: self.images.config.digest,
            platforms: vec![config.platform().to_string()],
            size: sizes + self.images.manifest.size + self.images.config.size,
            tagged: now().seconds.cast_unsigned(),
            blobs: blobs.into_iter().collect(),
            index: None,
            origins: BTreeMap::new(),
        })?)
    }

    /// The new image's manifest and configuration, which are in the store afterwards.
    fn documents(&self) -> Result<(Manifest, ImageConfig), EngineError> {
        let manifest: Manifest = self.document(&self.images.manifest)?;
        let config: ImageConfig = self.document(&self.images.config)?;
        let names_it = manifest.config.digest == self.images.config.digest;
        if !names_it || manifest.layers.len() != config.rootfs.diff_ids.len() {
            let error = "its manifest and its configuration don't belong together";
            return Err(unusable(self.archive, &error));
        }
        Ok((manifest, config))
    }

    fn document<T: serde::de::DeserializeOwned>(&self, blob: &DeltaBlob) -> Result<T, EngineError> {
        let stored = self.copied(blob)?;
        let bytes = host::read(&stored.path).unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|error| unusable(self.archive, &error))
    }

    /// A blob of the archive, checked, in the store.
    fn copied(&self, blob: &DeltaBlob) -> Result<kiln_cache::Blob, EngineError> {
        let store = &self.maker.0.store;
        if let Some(here) = store.blobs().get(&blob.digest)? {
            return Ok(here);
        }
        let mut writer = store.blobs().writer()?;
        self.fetch(blob, &mut writer)?;
        Ok(writer.commit(Some(blob.digest))?)
    }

    fn fetch(&self, blob: &DeltaBlob, out: &mut dyn io::Write) -> Result<(), ImageError> {
        let client = &self.maker.0.client;
        client.fetch_blob(self.archive, &blob.digest, blob.size, out, &|_| {})
    }

    /// Brings one layer into the store: rebuilt, or taken from the archive as it is.
    fn layer(&self, layer: &ImageLayer, events: &dyn EventSink) -> Result<(), EngineError> {
        let trees = self.maker.0;
        if trees.store.blobs().get(&layer.blob)?.is_some() {
            return Ok(());
        }
        let Some(from) = self.artifact.layer(&layer.blob) else {
            return match trees.store.layers().tree(&layer.diff_id)? {
                Some(_) => Ok(()),
                None => Err(missing(format!(
                    "layer {} is neither in {} nor here: pull the image instead",
                    layer.blob, self.archive
                ))),
            };
        };
        if !from.is_tar_diff() {
            return self.copied(from).map(drop);
        }
        let rebuild = Rebuild {
            trees,
            old: &self.old,
            layer,
            from,
            fetch: &|blob, out| self.fetch(blob, out),
        };
        match rebuild.recipe() {
            Some(recipe) => _ = rebuild.blob(&recipe)?,
            // Nobody knows how its blob was compressed: its files are what is had.
            None => trees.unpack_rebuilt(&rebuild, events)?,
        }
        Ok(())
    }
}

fn unusable(archive: &str, reason: &dyn std::fmt::Display) -> EngineError {
    missing(format!("{archive} can't be loaded: {reason}"))
}

fn missing(message: String) -> EngineError {
    EngineError::Refused(message)
}
