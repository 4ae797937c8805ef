//! The result of a step: a root filesystem as a stack of layers, or a directory of the user's.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use kiln_graph::encode::Encoder;
use kiln_graph::{ContentDigest, ImageLayer, ImagePath, Manifest, TreeId};

/// Bumped whenever the digest of a stack is made otherwise.
const CONTENT_VERSION: u32 = 1;

/// The id of the tree without entries.
#[must_use]
pub fn empty_tree() -> TreeId {
    static EMPTY: LazyLock<TreeId> = LazyLock::new(|| Manifest::default().id());
    *EMPTY
}

/// One layer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerRef {
    /// A layer of an image, which may not have been fetched.
    Image {
        /// The layer.
        layer: ImageLayer,
        /// The image's name, to fetch it by.
        image: Arc<str>,
    },
    /// A tree, of the store or of a shared cache.
    Tree(TreeId),
}

/// A root filesystem: layers, lowest first. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    layers: Arc<[LayerRef]>,
    content: ContentDigest,
}

impl Snapshot {
    /// The empty tree.
    #[must_use]
    pub fn scratch() -> Self {
        Self::new(Vec::new())
    }

    /// A stack of layers. The tree without entries adds nothing to the content, so that a step that
    /// changes nothing leaves what follows as it was.
    #[must_use]
    pub fn new(layers: Vec<LayerRef>) -> Self {
        let content = ContentDigest(Encoder::new("kiln-stack", CONTENT_VERSION).finish());
        let content = layers.iter().fold(content, stack);
        Self {
            layers: layers.into(),
            content,
        }
    }

    /// The layers of an image, lowest first, which need not have been fetched, and its name.
    #[must_use]
    pub fn of_image(layers: &[ImageLayer], name: &str) -> Self {
        let image: Arc<str> = name.into();
        let layer = |layer: &ImageLayer| LayerRef::Image {
            layer: layer.clone(),
            image: image.clone(),
        };
        Self::new(layers.iter().map(layer).collect())
    }

    /// This snapshot with more trees on top.
    #[must_use]
    pub fn with(&self, added: &[TreeId]) -> Self {
        let added = added.iter().copied().map(LayerRef::Tree);
        let content = added.clone();
        let content = content.fold(self.content, |below, layer| stack(below, &layer));
        let layers = self.layers.iter().cloned().chain(added).collect();
        Self { layers, content }
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[LayerRef] {
        &self.layers
    }

    /// The identity of what the snapshot contains.
    #[must_use]
    pub fn content(&self) -> ContentDigest {
        self.content
    }
}

fn stack(below: ContentDigest, layer: &LayerRef) -> ContentDigest {
    let mut out = Encoder::new("kiln-stack", CONTENT_VERSION);
    out.digest(&below.0);
    match layer {
        LayerRef::Tree(id) if *id == empty_tree() => return below,
        LayerRef::Tree(id) => out.tag(0).digest(&id.0),
        LayerRef::Image { layer, .. } => out.tag(1).blob(&layer.diff_id),
    };
    ContentDigest(out.finish())
}

/// A directory of the user's, as it was scanned.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where it is.
    pub root: PathBuf,
    /// What was scanned of it.
    pub manifest: Arc<Manifest>,
}

impl Directory {
    /// The identity of what a path leads to, times left out.
    #[must_use]
    pub fn content(&self, path: &ImagePath) -> ContentDigest {
        let mut out = Encoder::new("kiln-folder", CONTENT_VERSION);
        let part = self.manifest.resolve(path, true);
        out.seq(self.manifest.subtree(&part), |out, entry| {
            out.path(&entry.path);
            entry.encode_attributes(out);
        });
        ContentDigest(out.finish())
    }
}

/// The result of a step.
#[derive(Clone, Debug)]
pub enum StepResult {
    /// A root filesystem.
    Snapshot(Snapshot),
    /// A directory of the user's.
    Directory(Arc<Directory>),
}

impl StepResult {
    /// The identity of all that it contains.
    #[must_use]
    pub fn content(&self) -> ContentDigest {
        match self {
            Self::Snapshot(snapshot) => snapshot.content(),
            Self::Directory(directory) => directory.content(&ImagePath::root()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Digest;

    #[test]
    fn empty_layers_do_not_count_and_order_does() {
        let empty = empty_tree();
        let trees = [b"a", b"b"].map(|name| TreeId(Digest::of(name)));
        let [a, b] = trees.map(LayerRef::Tree);
        let of = |layers: &[LayerRef]| Snapshot::new(layers.to_vec()).content();
        let nothing = LayerRef::Tree(empty);
        assert_eq!(
            of(std::slice::from_ref(&a)),
            of(&[nothing.clone(), a.clone(), nothing])
        );
        assert_ne!(of(&[a.clone(), b.clone()]), of(&[b.clone(), a.clone()]));
        let grown = Snapshot::scratch().with(&trees[..1]).with(&trees[1..]);
        assert_eq!(grown, Snapshot::new(vec![a, b]));
    }
}
