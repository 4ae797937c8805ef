//! Stacks of trees as one tree.

use kiln_cache::Tree;
use kiln_graph::Manifest;
use kiln_graph::encode::Encoder;
use kiln_tree::{Sharing, copy_tree};

use crate::EngineError;
use crate::snapshotter::Snapshotter;
use crate::view::view_of;

/// One tree that shows what a stack does, lowest first; its files are shared with theirs.
///
/// # Errors
/// When a manifest can't be read, or the store can't be written.
pub fn joined(trees: &Snapshotter, stack: &[Tree]) -> Result<Tree, EngineError> {
    let store = &trees.store;
    let mut key = Encoder::new("kiln-joined-tree", 1);
    key.seq(stack, |out, tree| {
        out.digest(&tree.id().0);
    });
    let key = key.finish();
    if let Some(tree) = store.memos().tree("joined", &key)? {
        return Ok(tree);
    }
    let files = view_of(stack)?.flatten();
    let staging = store.staging()?;
    let give_away = trees.gives_away;
    copy_tree(&files, staging.root(), give_away, Sharing::HardLink).map_err(|source| {
        EngineError::Output {
            what: "the layers' files as one directory".to_owned(),
            source,
        }
    })?;
    let manifest: Manifest = files.into_iter().map(|(entry, _)| entry).collect();
    let tree = store.trees().commit(staging, manifest)?;
    store.memos().put("joined", &key, &tree.id())?;
    Ok(tree)
}
