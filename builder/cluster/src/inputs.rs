//! The inputs of an action: what the trees of its steps are as blobs, and where these are here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;
use kiln_execute::{Distant, EngineError, Snapshotter};
use kiln_export::remote_tree;
use kiln_graph::{BlobDigest, ImageLayer, Timestamp, TreeId};
use kiln_share::{RemoteManifest, RemoteTree};
use kiln_solve::{EventSink, LayerRef, Snapshot};

use crate::action::InputRoot;
use crate::digest::{Stored, of_blob};
use crate::helper::Helper;
use crate::order::{BLOBS, HELPER};
use crate::storage::{Content, Upload};

/// Files that an action needs, each by its digest.
#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) root: InputRoot,
    /// The trees among them.
    pub(crate) trees: BTreeMap<TreeId, RemoteTree>,
    files: BTreeMap<String, Input>,
}

struct Input {
    digest: Digest,
    source: Source,
}

/// Where an input is.
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
    /// A layer of an image, which is fetched when the cluster lacks it, and the image's name.
    Layer(ImageLayer, String),
    /// The layer of a tree that was left in the cluster.
    Left(Arc<Distant>),
}

/// What trees are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) trees: &'a Snapshotter,
    /// Trees as the cluster gave them.
    pub(crate) known: &'a dyn Fn(&TreeId) -> Option<RemoteTree>,
    /// Files written since then are known to be whole.
    pub(crate) since: Timestamp,
    pub(crate) events: &'a dyn EventSink,
}

impl Inputs {
    fn add(&mut self, path: &str, digest: Digest, executable: bool, source: Source) {
        self.root.add(path, digest.clone(), executable);
        let input = Input {
            digest: digest.clone(),
            source,
        };
        _ = self.files.insert(digest.hash, input);
    }

    fn add_blob(&mut self, digest: &BlobDigest, size: u64, source: Source) {
        let path = format!("{BLOBS}/{}", digest.hex());
        self.add(&path, of_blob(digest, size), false, source);
    }

    /// Adds a file of bytes.
    pub(crate) fn add_bytes(&mut self, path: &str, bytes: Vec<u8>) {
        let stored = Stored::new(bytes);
        self.add(path, stored.digest, false, Source::Bytes(stored.bytes));
    }

    /// Adds the program that runs there.
    pub(crate) fn add_helper(&mut self, helper: &Helper) {
        for library in &helper.libraries {
            let target = library.target.to_string_lossy();
            let source = Source::File(library.path.clone());
            self.add(&target, library.digest.clone(), true, source);
        }
        let source = Source::File(helper.program.path.clone());
        self.add(HELPER, helper.program.digest.clone(), true, source);
    }

    /// Adds the layers of a root filesystem.
    pub(crate) fn add_snapshot(
        &mut self,
        snapshot: &Snapshot,
        from: Origin<'_>,
    ) -> Result<(), EngineError> {
        for layer in snapshot.layers() {
            match layer {
                LayerRef::Image { layer, image } => {
                    let source = Source::Layer(layer.clone(), image.to_string());
                    self.add_blob(&layer.blob, layer.size, source);
                }
                LayerRef::Tree(id) => self.add_tree(id, from)?,
            }
        }
        Ok(())
    }

    fn add_tree(&mut self, id: &TreeId, from: Origin<'_>) -> Result<(), EngineError> {
        if self.trees.contains_key(id) {
            return Ok(());
        }
        let known = match (from.known)(id) {
            Some(tree) => self.add_known(from.trees, tree)?,
            None => false,
        };
        if known {
            return Ok(());
        }
        let (tree, files) = remote_tree(from.trees, id, from.since, from.events)?;
        for (digest, size, path) in files {
            self.add_blob(&digest, size, Source::File(path));
        }
        _ = self.trees.insert(*id, tree);
        Ok(())
    }

    /// Adds a tree that the cluster gave, whose files may be there only.
    fn add_known(&mut self, trees: &Snapshotter, tree: RemoteTree) -> Result<bool, EngineError> {
        let RemoteManifest::Blob { manifest, .. } = &tree.manifest else {
            return Ok(false);
        };
        let Some(manifest) = trees.store.blobs().get(manifest)? else {
            return Ok(false);
        };
        let layer = &tree.layer;
        let source = match (
            trees.store.blobs().get(&layer.blob)?,
            trees.distant.get(&tree.tree),
        ) {
            (Some(blob), _) => Source::File(blob.path),
            (None, Some(distant)) => Source::Left(distant),
            (None, None) => return Ok(false),
        };
        self.add_blob(&layer.blob, layer.size, source);
        self.add_blob(&manifest.digest, manifest.size, Source::File(manifest.path));
        _ = self.trees.insert(tree.tree, tree);
        Ok(true)
    }

    /// The digests of all files.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.files.values().map(|input| input.digest.clone())
    }

    /// Brings what a cluster lacks here, as far as it isn't.
    pub(crate) fn bring(
        &mut self,
        is_missing: impl Fn(&str) -> bool,
        from: Origin<'_>,
    ) -> Result<(), EngineError> {
        let missing = self.files.iter_mut().filter(|(hash, _)| is_missing(hash));
        for (_, input) in missing {
            let blob = match &input.source {
                Source::Layer(layer, image) => from.trees.blob(layer, image, from.events)?,
                // It is gone there: what says so has it made again.
                Source::Left(distant) => from.trees.distant_layer(distant, from.events)?,
                Source::Bytes(_) | Source::File(_) => continue,
            };
            input.source = Source::File(blob.path);
        }
        Ok(())
    }

    /// The files that a cluster lacks, once they were brought here.
    pub(crate) fn uploads(&self, is_missing: impl Fn(&str) -> bool) -> Vec<Upload<'_>> {
        let missing = self.files.iter().filter(|(hash, _)| is_missing(hash));
        missing.filter_map(|(_, input)| input.upload()).collect()
    }
}

impl Input {
    fn upload(&self) -> Option<Upload<'_>> {
        let content = match &self.source {
            Source::Bytes(bytes) => Content::Bytes(bytes),
            Source::File(path) => Content::File(path),
            Source::Layer(..) | Source::Left(_) => return None,
        };
        Some(Upload {
            digest: self.digest.clone(),
            content,
        })
    }
}
