//! The files of layers, as far as differences need them: their contents. What a layer was compressed
//! from serves as well as what it unpacks to, though its times may be others.

use kiln_cache::{Store, Tree};
use kiln_graph::{BlobDigest, Digest, ImageLayer, TreeId};
use kiln_solve::{EventSink, LayerRef};

use crate::snapshotter::Snapshotter;
use crate::{EngineError, parallel};

const MEMO: &str = "layer-files";

/// Notes the tree that a layer was compressed from.
///
/// # Errors
/// When the store can't be written.
pub fn note_files(store: &Store, diff_id: &BlobDigest, tree: &TreeId) -> Result<(), EngineError> {
    Ok(store.memos().put(MEMO, &key(diff_id), tree)?)
}

/// The tree with a layer's files, when it is here.
pub(super) fn files_here(store: &Store, diff_id: &BlobDigest) -> Result<Option<Tree>, EngineError> {
    match store.layers().tree(diff_id)? {
        Some(tree) => Ok(Some(tree)),
        None => Ok(store.memos().tree(MEMO, &key(diff_id))?),
    }
}

/// The trees with the files of an image's layers, lowest first; what isn't here is unpacked, and
/// fetched before if need be.
///
/// # Errors
/// When one can't be had.
pub fn source_trees(
    trees: &Snapshotter,
    layers: &[ImageLayer],
    image: &str,
    events: &dyn EventSink,
) -> Result<Vec<Tree>, EngineError> {
    parallel::map(layers, |layer| {
        if let Some(tree) = files_here(&trees.store, &layer.diff_id)? {
            return Ok(tree);
        }
        let layer = LayerRef::Image {
            layer: layer.clone(),
            image: image.into(),
        };
        trees.tree(&layer, events)
    })
}

fn key(diff_id: &BlobDigest) -> Digest {
    Digest::from_bytes(*diff_id.as_bytes())
}
