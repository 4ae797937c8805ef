//! Sends steps' results to a remote.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kiln_cache::remote::{
    CacheSigner, Remote, RemoteBlob, RemoteRecord, RemoteTree, manifest_bytes,
};
use kiln_graph::{Op, StepId, StepKey};

use crate::layering::PlannedLayer;
use crate::snapshot::{LayerRef, StepResult};
use crate::solve::Solved;
use crate::{EngineError, EventSink, ImageOptions, parallel};

/// A blob, and the file that holds it.
type BlobFile = (kiln_graph::BlobDigest, u64, PathBuf);

/// Which results are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// All.
    Max,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// How many results the remote has now that it lacked.
    pub steps: usize,
    /// How many bytes were sent.
    pub bytes: u64,
}

impl Solved {
    /// Sends results that a remote lacks.
    ///
    /// # Errors
    /// When the remote can't be written, or trees can't be read.
    pub fn export_cache(
        &self,
        remote: &dyn Remote,
        mode: CacheMode,
        signer: Option<&CacheSigner>,
        events: &dyn EventSink,
    ) -> Result<Exported, EngineError> {
        let steps: Vec<(StepId, StepKey)> = match mode {
            CacheMode::Max => self.keys.iter().map(|(id, key)| (*id, *key)).collect(),
            CacheMode::Min => self.own_steps(),
        };
        let sent = parallel::map(&steps, |(id, key)| {
            self.export(*id, key, remote, signer, events)
        })?;
        let sent = sent.into_iter().flatten();
        Ok(sent.fold(Exported::default(), |all, bytes| Exported {
            steps: all.steps + 1,
            bytes: all.bytes + bytes,
        }))
    }

    /// The steps of the targets' own chains.
    fn own_steps(&self) -> Vec<(StepId, StepKey)> {
        let graph = &self.build.graph;
        let mut open: Vec<StepId> = self
            .build
            .targets
            .iter()
            .map(|target| target.root)
            .collect();
        let mut chain = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !chain.insert(id) {
                continue;
            }
            match &graph.step(id).op {
                Op::Exec(exec) => open.push(graph.input(id, exec.root)),
                Op::Files(files) => open.extend(files.base.map(|base| graph.input(id, base))),
                Op::Merge { layers } => open.extend(layers.iter().map(|one| graph.input(id, *one))),
                _ => {}
            }
        }
        let keyed = chain
            .into_iter()
            .filter_map(|id| Some((id, *self.keys.get(&id)?)));
        keyed.collect()
    }

    /// The bytes sent; `None` when the remote has the result.
    fn export(
        &self,
        id: StepId,
        key: &StepKey,
        remote: &dyn Remote,
        signer: Option<&CacheSigner>,
        events: &dyn EventSink,
    ) -> Result<Option<u64>, EngineError> {
        let fail = |reason| EngineError::RemoteCache {
            remote: remote.name(),
            reason,
        };
        let name = RemoteRecord::entry_name(key);
        if remote.entry(&name).map_err(fail)?.is_some() {
            return Ok(None);
        }
        let mut output = Vec::new();
        let mut files: Vec<BlobFile> = Vec::new();
        for layer in self.added_layers(id) {
            let (tree, own) = self.remote_tree(&layer, events)?;
            output.push(tree);
            files.extend(own);
        }
        let record = RemoteRecord {
            key: *key,
            name: self.build.graph.step(id).name.to_string(),
            took: 0,
            output,
        };
        let text = serde_json::to_string(&record).unwrap_or_default();
        let entry = signer.map_or_else(
            || text.clone().into_bytes(),
            |signer| signer.sign(&name, &text),
        );
        let blobs: Vec<RemoteBlob<'_>> = files
            .iter()
            .map(|(digest, size, path)| RemoteBlob {
                digest: *digest,
                size: *size,
                path,
            })
            .collect();
        remote.put(&name, &entry, &blobs).map(Some).map_err(fail)
    }

    /// What a step added to what it is built on.
    fn added_layers(&self, id: StepId) -> Vec<LayerRef> {
        let Some(StepResult::Snapshot(snapshot)) = self.results.get(&id) else {
            return Vec::new();
        };
        let own = self.count_of(kiln_graph::LayerOrigin::Step(id));
        let layers = snapshot.layers();
        layers[layers.len().saturating_sub(own)..].to_vec()
    }

    fn remote_tree(
        &self,
        layer: &LayerRef,
        events: &dyn EventSink,
    ) -> Result<(RemoteTree, Vec<BlobFile>), EngineError> {
        let store = &self.engine.store;
        let trees = self.engine.trees(
            &crate::snapshot::Snapshot::new(vec![layer.clone()], None),
            events,
        )?;
        let tree = trees
            .first()
            .map_or_else(|| store.empty_tree(), |tree| Ok(tree.clone()))?;
        let manifest = store.put_blob(&manifest_bytes(&*tree.manifest()?))?;
        let planned = PlannedLayer::Stack {
            layers: vec![LayerRef::Tree(tree.id())],
            over_base: true,
        };
        let blob = self
            .layer_blob(&planned, &ImageOptions::default(), events)?
            .blob;
        let stored = store
            .blob(&blob.blob)?
            .ok_or_else(|| EngineError::Missing {
                message: format!("blob {} is gone from the store; build again", blob.blob),
                location: None,
            })?;
        let files = vec![
            (manifest.digest, manifest.size, manifest.path),
            (stored.digest, stored.size, stored.path),
        ];
        let tree = RemoteTree {
            tree: tree.id(),
            manifest: manifest.digest,
            manifest_size: manifest.size,
            layer: blob,
        };
        Ok((tree, files))
    }
}
