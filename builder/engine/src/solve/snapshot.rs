//! The result of a step: a root filesystem as a stack of layers, or a folder of the user's.

use std::sync::Arc;

use kiln_graph::encode::Encoder;
use kiln_graph::{ContentDigest, ImageLayer, ImagePath, Manifest, TreeId};
use kiln_tree::TreeRoot;

use crate::share::Distant;

/// Bumped whenever the digest of a stack is made otherwise.
const CONTENT_VERSION: u32 = 1;

/// One layer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LayerRef {
    /// A layer of an image, which may not have been fetched.
    Image {
        layer: ImageLayer,
        /// The image's name, to fetch it by.
        image: Arc<str>,
    },
    /// A tree of the store.
    Tree(TreeId),
    /// A tree that may still be on a remote only.
    Distant(Arc<Distant>),
}

/// A root filesystem: layers, lowest first. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    layers: Arc<[LayerRef]>,
    content: ContentDigest,
}

impl Snapshot {
    /// The empty tree.
    pub(crate) fn scratch() -> Self {
        Self::new(Vec::new(), None)
    }

    /// A stack of layers. `empty` is the id of the tree without entries: it adds nothing to the
    /// content, so that a step that changes nothing leaves what follows as it was.
    pub(crate) fn new(layers: Vec<LayerRef>, empty: Option<TreeId>) -> Self {
        let content = ContentDigest(Encoder::new("kiln-stack", CONTENT_VERSION).finish());
        let content = layers
            .iter()
            .fold(content, |below, layer| stack(below, layer, empty));
        Self {
            layers: layers.into(),
            content,
        }
    }

    /// This snapshot with more layers on top.
    pub(crate) fn with(&self, added: &[LayerRef], empty: TreeId) -> Self {
        let content = added.iter().fold(self.content, |below, layer| {
            stack(below, layer, Some(empty))
        });
        let layers = self.layers.iter().chain(added).cloned().collect();
        Self { layers, content }
    }

    /// The layers, lowest first.
    pub(crate) fn layers(&self) -> &[LayerRef] {
        &self.layers
    }

    /// The identity of what the snapshot contains.
    pub(crate) fn content(&self) -> ContentDigest {
        self.content
    }
}

fn stack(below: ContentDigest, layer: &LayerRef, empty: Option<TreeId>) -> ContentDigest {
    let mut out = Encoder::new("kiln-stack", CONTENT_VERSION);
    out.digest(&below.0);
    match layer {
        LayerRef::Tree(id) if Some(*id) == empty => return below,
        LayerRef::Distant(distant) if Some(distant.tree.tree) == empty => return below,
        LayerRef::Tree(id) => out.tag(0).digest(&id.0),
        LayerRef::Distant(distant) => out.tag(0).digest(&distant.tree.tree.0),
        LayerRef::Image { layer, .. } => out.tag(1).blob(&layer.diff_id),
    };
    ContentDigest(out.finish())
}

/// A folder of the user's, as it was scanned.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) root: TreeRoot,
    /// What was scanned of it.
    pub(crate) manifest: Arc<Manifest>,
}

impl Folder {
    /// The identity of the part below `path`, times left out.
    pub(crate) fn content(&self, path: &ImagePath) -> ContentDigest {
        let mut out = Encoder::new("kiln-folder", CONTENT_VERSION);
        out.seq(self.manifest.subtree(path), |out, entry| {
            out.path(&entry.path);
            entry.encode_attributes(out);
        });
        ContentDigest(out.finish())
    }
}

/// The result of a step.
#[derive(Clone, Debug)]
pub(crate) enum StepResult {
    /// A root filesystem.
    Snapshot(Snapshot),
    /// A folder of the user's.
    Folder(Arc<Folder>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Digest;

    #[test]
    fn empty_layers_do_not_count_and_order_does() {
        let empty = TreeId(Digest::of(b"empty"));
        let [a, b] = [b"a", b"b"].map(|name| LayerRef::Tree(TreeId(Digest::of(name))));
        let of = |layers: &[LayerRef]| Snapshot::new(layers.to_vec(), Some(empty)).content();
        let nothing = LayerRef::Tree(empty);
        assert_eq!(
            of(std::slice::from_ref(&a)),
            of(&[nothing.clone(), a.clone(), nothing])
        );
        assert_ne!(of(&[a.clone(), b.clone()]), of(&[b.clone(), a.clone()]));
        let grown = Snapshot::scratch()
            .with(std::slice::from_ref(&a), empty)
            .with(std::slice::from_ref(&b), empty);
        assert_eq!(grown, Snapshot::new(vec![a, b], Some(empty)));
    }
}
