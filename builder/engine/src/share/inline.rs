//! A cache that an image carries: the entries of the steps whose changes are layers of their own,
//! as the member `dev.kiln.cache.v1` of the image's configuration, an object of entries by their
//! names. Their files are the image's layers, so that nothing is stored twice.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;

use kiln_graph::{BlobDigest, ImageConfig};
use kiln_image::{Client, Descriptor, ImageError, Index, Manifest, Reference};
use kiln_share::{
    CacheSigner, Remote, RemoteBlob, RemoteManifest, RemotePart, RemoteRecord, RemoteTree,
};

use crate::export::assemble::{ImageBlob, ImageOptions};
use crate::export::layering::PlannedLayer;
use crate::export::shared_cache::own_steps;
use crate::solve::scheduler::Solved;
use crate::solve::snapshot::{LayerRef, StepResult};
use crate::{EngineError, Event, EventSink};

/// No configuration is larger, in bytes: so much is read into memory.
const MOST_CONFIG: u64 = 64 << 20;

/// That an image is to carry the cache of its own steps.
#[derive(Clone, Debug, Default)]
pub struct InlineCache {
    /// Signs the entries.
    pub signer: Option<CacheSigner>,
}

impl Solved {
    /// The entries of the steps that have layers of their own in an image.
    pub(crate) fn inline_cache(
        &self,
        planned: &[PlannedLayer],
        blobs: &[ImageBlob],
        options: &ImageOptions,
        events: &dyn EventSink,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let Some(wanted) = &options.inline else {
            return Ok(BTreeMap::new());
        };
        let mut entries = BTreeMap::new();
        let mut without = 0;
        for id in own_steps(&self.build) {
            let Some(key) = self.keys.get(&id) else {
                continue;
            };
            let trees = self.added_layers(id).into_iter().map(|layer| {
                let at = planned.iter().position(|planned| planned.is_only(&layer));
                let blob = at.map(|at| &blobs[at]);
                blob.map(|blob| self.inline_tree(&layer, blob, options, events))
                    .transpose()
                    .map(Option::flatten)
            });
            let trees: Option<Vec<RemoteTree>> = trees.collect::<Result<_, EngineError>>()?;
            let Some(output) = trees else {
                without += 1;
                continue;
            };
            let record = RemoteRecord {
                key: *key,
                name: self.build.graph.step(id).name.to_string(),
                took: 0,
                created: self.created.get(&id).copied().unwrap_or(0),
                stdout: self.outputs.get(&id).cloned(),
                output,
            };
            let entry = record.signed(wanted.signer.as_ref());
            let name = RemoteRecord::entry_name(key);
            entries.insert(name, String::from_utf8_lossy(&entry).into_owned());
            for part in self.parts.get(&id).into_iter().flatten() {
                let entry = part.signed(wanted.signer.as_ref());
                let name = RemotePart::entry_name(&part.part);
                entries.insert(name, String::from_utf8_lossy(&entry).into_owned());
            }
        }
        if without > 0 {
            let message = format!(
                "the image carries no cache of {without} steps, which have no layer of their own in it"
            );
            events.event(Event::Warning { message });
        }
        Ok(entries)
    }

    /// What a step added to what it is built on.
    fn added_layers(&self, id: kiln_graph::StepId) -> Vec<LayerRef> {
        let Some(StepResult::Snapshot(snapshot)) = self.results.get(&id) else {
            return Vec::new();
        };
        let own = self.count_of(kiln_graph::LayerOrigin::Step(id));
        let layers = snapshot.layers();
        layers[layers.len().saturating_sub(own)..].to_vec()
    }

    /// A tree whose files are a layer; `None` when the layer has other times.
    fn inline_tree(
        &self,
        layer: &LayerRef,
        blob: &ImageBlob,
        options: &ImageOptions,
        events: &dyn EventSink,
    ) -> Result<Option<RemoteTree>, EngineError> {
        // Seekable layers have files of their own.
        if options.codec.is_seekable() {
            return Ok(None);
        }
        let (tree, manifest) = match layer {
            LayerRef::Image { .. } => return Ok(None),
            LayerRef::Distant(distant)
                if matches!(distant.tree.manifest, RemoteManifest::Layer { .. })
                    && distant.tree.layer.blob == blob.blob.blob =>
            {
                return Ok(Some(distant.tree.clone()));
            }
            LayerRef::Distant(distant) => (
                distant.tree.tree,
                self.engine.distant_manifest(distant, events)?,
            ),
            LayerRef::Tree(id) => match self.engine.store.tree(id)? {
                Some(tree) => (*id, tree.manifest()?),
                None => return Ok(None),
            },
        };
        let latest = options.latest();
        let mut counting = manifest.entries().iter().filter(|entry| entry.mtime_counts);
        let cut = counting.any(|entry| latest.is_some_and(|latest| entry.mtime > latest));
        Ok((!cut).then(|| RemoteTree {
            tree,
            manifest: RemoteManifest::in_layer(&manifest),
            layer: blob.blob.clone(),
        }))
    }
}

/// The cache that an image in a registry carries. The image is looked at once, at the first use.
#[derive(Debug)]
pub struct InlineRemote {
    client: Client,
    image: Reference,
    entries: OnceLock<Result<BTreeMap<String, String>, String>>,
}

impl InlineRemote {
    /// The cache of an image, which need not be there.
    #[must_use]
    pub fn new(client: Client, image: Reference) -> Self {
        Self {
            client,
            image,
            entries: OnceLock::new(),
        }
    }

    /// The entries of all the images that the name stands for.
    fn read(&self) -> Result<BTreeMap<String, String>, String> {
        let top = match self.client.manifest_bytes(&self.image) {
            Ok(top) => top,
            Err(ImageError::NotFound { .. }) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.to_string()),
        };
        let Ok(index) = serde_json::from_slice::<Index>(&top) else {
            return self.entries_of(&top);
        };
        let images = index
            .manifests
            .iter()
            .filter(|image| !image.is_attestation());
        let mut entries = BTreeMap::new();
        for image in images {
            let mut reference = self.image.clone();
            reference.digest = Some(image.digest);
            let bytes = self.client.manifest_bytes(&reference);
            entries.extend(self.entries_of(&bytes.map_err(|error| error.to_string())?)?);
        }
        Ok(entries)
    }

    fn entries_of(&self, manifest: &[u8]) -> Result<BTreeMap<String, String>, String> {
        let manifest: Manifest =
            serde_json::from_slice(manifest).map_err(|error| format!("its manifest: {error}"))?;
        let Descriptor { digest, size, .. } = manifest.config;
        if size > MOST_CONFIG {
            return Err("its configuration is larger than any may be".to_owned());
        }
        let mut bytes = Vec::new();
        self.blob(&digest, size, &mut bytes)?;
        // What is no configuration (an artifact's, say) carries nothing.
        let config = serde_json::from_slice::<ImageConfig>(&bytes);
        Ok(config.map(|config| config.inline_cache).unwrap_or_default())
    }
}

impl Remote for InlineRemote {
    fn name(&self) -> String {
        self.image.to_string()
    }

    fn repository(&self) -> Option<String> {
        Some(self.image.to_string())
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let entries = self.entries.get_or_init(|| self.read()).as_ref();
        let found = entries.map_err(Clone::clone)?.get(name);
        Ok(found.map(|text| text.clone().into_bytes()))
    }

    fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, String> {
        Err("an image's own cache is written with the image only".to_owned())
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), String> {
        let name = self.image.to_string();
        self.client
            .fetch_blob(&name, digest, size, out, &|_| {})
            .map_err(|error| error.to_string())
    }
}
