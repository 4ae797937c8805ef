//! The cache that an image carries: the entries of the steps whose changes are layers of their own,
//! see [`kiln_share::InlineRemote`]. Their files are the image's layers, so that nothing is stored
//! twice.

use std::collections::BTreeMap;

use kiln_execute::EngineError;
use kiln_graph::{LayerOrigin, StepId, StepKey};
use kiln_share::{CacheSigner, RemoteManifest, RemoteName, RemotePart, RemoteRecord, RemoteTree};
use kiln_solve::{Event, EventSink, LayerRef, StepResult};

use crate::built::Built;
use crate::image_options::{ImageOptions, InlineCache};
use crate::layer_blob::ImageBlob;
use crate::layering::{LayerPlanner, PlannedLayer};
use crate::shared_cache::own_steps;

/// Writes the entries that one image carries.
pub(crate) struct InlineWriter<'a> {
    pub(crate) built: Built<'a>,
    pub(crate) planner: LayerPlanner<'a>,
    pub(crate) options: &'a ImageOptions,
    pub(crate) events: &'a dyn EventSink,
}

impl InlineWriter<'_> {
    /// The entries of the steps that have layers of their own in the image, and the names of the others' results,
    /// by their names.
    pub(crate) fn entries(
        &self,
        wanted: &InlineCache,
        planned: &[PlannedLayer],
        blobs: &[ImageBlob],
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let signer = wanted.signer.as_ref();
        let mut entries = BTreeMap::new();
        let mut without = 0;
        let own = own_steps(self.built.build);
        for (id, key) in &self.built.solution.keys {
            let id = *id;
            let output = match own.contains(&id) {
                true => self.trees(id, planned, blobs)?,
                false => None,
            };
            let Some(output) = output else {
                without += usize::from(own.contains(&id));
                if let Some((name, text)) = self.name(id, *key, signer) {
                    entries.insert(name, text);
                    entries.insert(RemoteName::ANY.to_owned(), "{}".to_owned());
                }
                entries.extend(self.parts(id, signer));
                continue;
            };
            let record = self.record(id, *key, output).signed(signer);
            entries.insert(RemoteRecord::entry_name(key), text(&record));
            entries.extend(self.parts(id, signer));
        }
        if without > 0 {
            let message = format!(
                "the image carries no cache of {without} steps, which have no layer of their own in it"
            );
            self.events.event(Event::Warning { message });
        }
        Ok(entries)
    }

    fn record(&self, id: StepId, key: StepKey, output: Vec<RemoteTree>) -> RemoteRecord {
        let solution = self.built.solution;
        RemoteRecord {
            key,
            name: self.built.build.graph.step(id).name.to_string(),
            took: 0,
            created: solution.created.get(&id).copied().unwrap_or(0),
            stdout: solution.outputs.get(&id).cloned(),
            output,
        }
    }

    /// The entry of a result whose files aren't in the image.
    fn name(
        &self,
        id: StepId,
        key: StepKey,
        signer: Option<&CacheSigner>,
    ) -> Option<(String, String)> {
        let tree = |layer: LayerRef| match layer {
            LayerRef::Tree(tree) => Some(tree),
            LayerRef::Image { .. } => None,
        };
        let solution = self.built.solution;
        let name = RemoteName {
            key,
            created: solution.created.get(&id).copied().unwrap_or(0),
            stdout: solution.outputs.get(&id).cloned(),
            added: self
                .added(id)
                .into_iter()
                .map(tree)
                .collect::<Option<_>>()?,
        };
        Some((RemoteName::entry_name(&key), text(&name.signed(signer))))
    }

    /// The entries of the parts of results that a step's key is made of.
    fn parts(
        &self,
        id: StepId,
        signer: Option<&CacheSigner>,
    ) -> impl Iterator<Item = (String, String)> {
        let parts = self.built.solution.parts.get(&id).into_iter().flatten();
        parts.filter_map(move |part| {
            let content = part.content;
            let part = part.name?;
            let entry = RemotePart { part, content }.signed(signer);
            Some((RemotePart::entry_name(&part), text(&entry)))
        })
    }

    /// What a step added, when each tree of it is a layer of the image.
    fn trees(
        &self,
        id: StepId,
        planned: &[PlannedLayer],
        blobs: &[ImageBlob],
    ) -> Result<Option<Vec<RemoteTree>>, EngineError> {
        let mut trees = Vec::new();
        for layer in self.added(id) {
            let Some(at) = planned.iter().position(|planned| planned.is_only(&layer)) else {
                return Ok(None);
            };
            match self.tree(&layer, &blobs[at])? {
                Some(tree) => trees.push(tree),
                None => return Ok(None),
            }
        }
        Ok(Some(trees))
    }

    /// What a step added to what it is built on.
    fn added(&self, id: StepId) -> Vec<LayerRef> {
        let Some(StepResult::Snapshot(snapshot)) = self.built.solution.results.get(&id) else {
            return Vec::new();
        };
        let own = self.planner.count_of(LayerOrigin::Step(id));
        let layers = snapshot.layers();
        layers[layers.len().saturating_sub(own)..].to_vec()
    }

    /// A tree whose files are a layer; `None` when the layer has other times.
    fn tree(&self, layer: &LayerRef, blob: &ImageBlob) -> Result<Option<RemoteTree>, EngineError> {
        // Seekable layers have files of their own.
        if self.options.codec.is_seekable() {
            return Ok(None);
        }
        let LayerRef::Tree(tree) = layer else {
            return Ok(None);
        };
        let trees = self.built.trees;
        if let Some(distant) = trees.distant.get(tree)
            && matches!(distant.tree.manifest, RemoteManifest::Layer { .. })
            && distant.tree.layer.blob == blob.blob.blob
        {
            return Ok(Some(distant.tree.clone()));
        }
        let Some(manifest) = trees.manifest(tree, self.events)? else {
            return Ok(None);
        };
        let latest = self.options.latest();
        let mut counting = manifest.entries().iter().filter(|entry| entry.mtime_counts);
        let cut = counting.any(|entry| latest.is_some_and(|latest| entry.mtime > latest));
        Ok((!cut).then(|| RemoteTree {
            tree: *tree,
            manifest: RemoteManifest::in_layer(&manifest),
            layer: blob.blob.clone(),
        }))
    }
}

fn text(entry: &[u8]) -> String {
    String::from_utf8_lossy(entry).into_owned()
}
