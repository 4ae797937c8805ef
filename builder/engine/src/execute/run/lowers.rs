//! Long stacks: overlayfs takes at most 500 layers, so the lowest are joined into one tree.

use std::path::PathBuf;

use kiln_cache::Tree;
use kiln_graph::encode::Encoder;
use kiln_graph::{Manifest, TreeId};
use kiln_tree::{Sharing, copy_tree};

use crate::EngineError;
use crate::execute::snapshotter::view_of;
use crate::solve::step::Shared;

/// Stacks of more trees than this are joined.
const MOST: usize = 400;
/// How many are joined at once: rarely, but not so many that each new step starts again.
const JOINED: usize = 300;

impl Shared<'_> {
    /// The folders to be stacked for some trees, lowest first. Empty trees show nothing.
    pub(crate) fn lowers(&self, trees: &[Tree]) -> Result<Vec<PathBuf>, EngineError> {
        let mut trees: Vec<Tree> = trees
            .iter()
            .filter(|tree| tree.id() != self.empty)
            .cloned()
            .collect();
        while trees.len() > MOST {
            let joined = self.joined(&trees[..JOINED])?;
            trees.splice(..JOINED, [joined]);
        }
        Ok(trees.iter().map(Tree::fs).collect())
    }

    /// One tree that shows what a stack does; its files are shared with theirs.
    fn joined(&self, trees: &[Tree]) -> Result<Tree, EngineError> {
        let store = &self.engine.store;
        let mut key = Encoder::new("kiln-joined-tree", 1);
        key.seq(trees, |out, tree| {
            out.digest(&tree.id().0);
        });
        let key = key.finish();
        if let Some(id) = store.memo::<TreeId>("joined", &key)?
            && let Some(tree) = store.tree(&id)?
        {
            return Ok(tree);
        }
        let files = view_of(trees)?.flatten();
        let staging = store.staging()?;
        let give_away = self.engine.gives_away();
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
}
