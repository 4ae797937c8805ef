//! How many bytes would be moved for a step to run here, or in the cluster.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;
use kiln_execute::{Around, EngineError, Moves};
use kiln_export::made_layer;
use kiln_graph::{BlobDigest, TreeId};
use kiln_solve::{Cancel, Directory, Job, LayerRef, StepResult};

use crate::connection::Connection;
use crate::digest::of_blob;
use crate::known::KnownTrees;

/// What is known of a part of a step's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// In bytes, as it is moved.
    size: u64,
    is_here: bool,
    there: There,
}

/// One thing that inputs are made of.
#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Layer(&'a LayerRef),
    Directory(&'a Directory),
}

/// Whether a cluster has a part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum There {
    Known,
    /// If it has this blob.
    Asked(Digest),
    /// Nobody has made a blob of it yet.
    Not,
    /// It doesn't matter: layers of images go there once, for all that are built on them.
    Shared,
}

/// Blobs that a cluster was seen to have. Those that it loses are sent again all the same.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashSet<String>>);

impl Seen {
    fn add(&self, hashes: impl Iterator<Item = String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(hashes);
    }

    fn has(&self, hash: &str) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.contains(hash)
    }
}

/// What moves are counted with.
pub(crate) struct Counter<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) known: &'a KnownTrees,
    pub(crate) seen: &'a Seen,
    pub(crate) around: &'a Around<'a>,
}

impl Counter<'_> {
    /// What would be moved for a step; nothing when nobody can say.
    pub(crate) fn count(&self, job: &Job<'_>) -> Option<Moves> {
        let mut parts = Vec::new();
        for piece in pieces(job.inputs) {
            parts.push(self.part(piece, job).ok()?);
        }
        let asked = parts.iter().filter_map(|part| match &part.there {
            There::Asked(digest) if !self.seen.has(&digest.hash) => Some(digest.clone()),
            _ => None,
        });
        let asked: Vec<Digest> = asked.collect();
        let missing = self.missing(&asked, job.cancel)?;
        let found = asked.into_iter().map(|digest| digest.hash);
        self.seen.add(found.filter(|hash| !missing.contains(hash)));
        Some(moves(&parts, &|hash| self.seen.has(hash)))
    }

    fn missing(&self, asked: &[Digest], cancel: &Cancel) -> Option<HashSet<String>> {
        if asked.is_empty() {
            return Some(HashSet::new());
        }
        let missing = self.connection.storage.missing(asked.iter().cloned());
        self.connection.wait(cancel, missing).ok()
    }

    fn part(&self, piece: Piece<'_>, job: &Job<'_>) -> Result<Part, EngineError> {
        match piece {
            Piece::Directory(directory) => Ok(Part {
                size: directory.manifest.size(),
                is_here: true,
                there: There::Not,
            }),
            Piece::Layer(LayerRef::Tree(id)) => self.tree(id, job),
            Piece::Layer(LayerRef::Image { layer, .. }) => Ok(Part {
                size: layer.size,
                is_here: self.around.trees.store.layers().has(layer)?,
                there: There::Shared,
            }),
        }
    }

    fn tree(&self, id: &TreeId, job: &Job<'_>) -> Result<Part, EngineError> {
        let trees = self.around.trees;
        let is_here = trees.store.trees().get(id)?.is_some();
        let known = self.known.get(id);
        let layer = match (&known, trees.distant.get(id)) {
            (Some(tree), _) => Some(tree.layer.clone()),
            (None, Some(distant)) => Some(distant.tree.layer.clone()),
            (None, None) => made_layer(&trees.store, id)?,
        };
        let there = match (&known, &layer) {
            (Some(_), _) => There::Known,
            (None, Some(layer)) => There::Asked(of_blob(&layer.blob, layer.size)),
            (None, None) => There::Not,
        };
        let size = match layer {
            Some(layer) => layer.size,
            None => {
                let manifest = trees.manifest(id, job.events)?;
                manifest.map_or(0, |manifest| manifest.size())
            }
        };
        Ok(Part {
            size,
            is_here,
            there,
        })
    }
}

/// What inputs are made of, once each: images that are built on one base have its layers together. Pure.
fn pieces(inputs: &[StepResult]) -> Vec<Piece<'_>> {
    let mut seen = HashSet::new();
    let mut pieces = Vec::new();
    for input in inputs {
        match input {
            StepResult::Directory(directory) => pieces.push(Piece::Directory(directory)),
            StepResult::Snapshot(snapshot) => {
                let new = snapshot
                    .layers()
                    .iter()
                    .filter(|layer| seen.insert(id_of(layer)));
                pieces.extend(new.map(Piece::Layer));
            }
        }
    }
    pieces
}

/// What tells a layer from others, whatever the image is called that has it.
#[derive(PartialEq, Eq, Hash)]
enum LayerId {
    Tree(TreeId),
    Image(BlobDigest),
}

fn id_of(layer: &LayerRef) -> LayerId {
    match layer {
        LayerRef::Tree(id) => LayerId::Tree(*id),
        LayerRef::Image { layer, .. } => LayerId::Image(layer.blob),
    }
}

/// What has to be moved for a step that is made from these parts. Pure.
fn moves(parts: &[Part], has: &dyn Fn(&str) -> bool) -> Moves {
    let mut moves = Moves::default();
    for part in parts {
        if !part.is_here {
            moves.here = moves.here.saturating_add(part.size);
        }
        let is_there = match &part.there {
            There::Known | There::Shared => true,
            There::Asked(digest) => has(&digest.hash),
            There::Not => false,
        };
        if !is_there {
            moves.there = moves.there.saturating_add(part.size);
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::of_bytes;
    use kiln_solve::Snapshot;

    #[test]
    fn what_a_place_lacks_is_moved_to_it() {
        let (asked, other) = (of_bytes(b"a"), of_bytes(b"b"));
        let has = |hash: &str| hash == asked.hash;
        for (is_here, there, want) in [
            (true, There::Known, (0, 0)),
            (false, There::Known, (5, 0)),
            (true, There::Not, (0, 5)),
            (false, There::Not, (5, 5)),
            (true, There::Asked(asked.clone()), (0, 0)),
            (true, There::Asked(other), (0, 5)),
            (true, There::Shared, (0, 0)),
            (false, There::Shared, (5, 0)),
        ] {
            let part = Part {
                size: 5,
                is_here,
                there,
            };
            let found = moves(std::slice::from_ref(&part), &has);
            assert_eq!((found.here, found.there), want, "{part:?}");
            let twice = moves(&[part.clone(), part], &has);
            assert_eq!((twice.here, twice.there), (2 * want.0, 2 * want.1));
        }
    }

    #[test]
    fn layers_that_inputs_share_are_moved_once() {
        let tree = |bytes: &[u8]| TreeId(kiln_graph::Digest::of(bytes));
        let layer = kiln_graph::ImageLayer {
            blob: BlobDigest::of(b"base"),
            size: 4,
            media_type: String::new(),
            diff_id: BlobDigest::of(b"base"),
        };
        let on = |image: &str, added: &[u8]| {
            let base = Snapshot::of_image(std::slice::from_ref(&layer), image);
            StepResult::Snapshot(base.with(&[tree(b"common"), tree(added)]))
        };
        let inputs = [on("one", b"a"), on("other", b"b"), on("one", b"a")];
        let found = pieces(&inputs);
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
