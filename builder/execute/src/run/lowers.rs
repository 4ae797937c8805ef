//! Long stacks: overlayfs takes at most 500 layers, so the lowest are joined into one tree.

use std::path::PathBuf;

use kiln_cache::Tree;
use kiln_solve::empty_tree;

use crate::EngineError;
use crate::joined::joined;
use crate::snapshotter::Snapshotter;

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
