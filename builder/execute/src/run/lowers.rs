//! Long stacks: overlayfs takes at most 500 layers, so the lowest are joined into one tree.

use std::path::PathBuf;

use kiln_cache::Tree;
use kiln_graph::Manifest;
use kiln_graph::encode::Encoder;
use kiln_solve::empty_tree;
use kiln_tree::{Sharing, copy_tree};

use crate::EngineError;
use crate::snapshotter::{Snapshotter, view_of};

/// Stacks of more trees than this are joined.
const MAX_LAYERS: usize = 400;
/// How many are joined at once: rarely, but not so many that each new step starts again.
const JOINED: usize = 300;

/// The directories to be stacked for some trees, lowest first. Empty trees show nothing.
pub(super) fn of(trees: &Snapshotter, stack: &[Tree]) -> Result<Vec<PathBuf>, EngineError> {
    let shown = stack.iter().filter(|tree| tree.id() != empty_tree());
    let mut shown: Vec<Tree> = shown.cloned().collect();
    while shown.len() > MAX_LAYERS {
        let joined = joined(trees, &shown[..JOINED])?;
        shown.splice(..JOINED, [joined]);
    }
    Ok(shown.iter().map(Tree::fs).collect())
}

/// One tree that shows what a stack does; its files are shared with theirs.
fn joined(trees: &Snapshotter, stack: &[Tree]) -> Result<Tree, EngineError> {
    let store = &trees.store;
    let mut key = Encoder::new("kiln-joined-tree", 1);
    key.seq(stack, |out, tree| {
        out.digest(&tree.id().0);
    });
    let key = key.finish();
    if let Some(tree) = store.memo_tree("joined", &key)? {
        return Ok(tree);
    }
    let files = view_of(stack)?.flatten();
    let staging = store.staging()?;
    let give_away = trees.gives_away;
    copy_tree(&files, staging.root(), give_away, Sharing::HardLink).map_err(|source| {
        EngineError::Output {
            what: "the joined layers of a long stack".to_owned(),
            source,
        }
    })?;
    let manifest: Manifest = files.into_iter().map(|(entry, _)| entry).collect();
    let tree = store.commit(staging, manifest)?;
    store.put_memo("joined", &key, &tree.id())?;
    Ok(tree)
}
