//! What is in a layer: entries, and where their files lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use kiln_execute::{EngineError, Snapshotter, view_of};
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Entry, ImagePath, Manifest};
use kiln_solve::{EventSink, LayerRef, Snapshot};
use kiln_tree::{TreePath, TreeRoot};

/// A layer to be made.
pub(crate) enum PlannedLayer {
    /// Trees and layers, joined when they are several.
    Stack {
        layers: Vec<LayerRef>,
        /// Whether there may be layers below, from which it hides things.
        over_base: bool,
    },
    /// Some of the files of a stack.
    Part { name: String, content: LayerContent },
}

impl PlannedLayer {
    /// Whether it is this layer as it is, and nothing else.
    pub(crate) fn is_only(&self, layer: &LayerRef) -> bool {
        matches!(self, Self::Stack { layers, .. } if layers == std::slice::from_ref(layer))
    }
}

/// Entries in path order, and where their files lie.
#[derive(Clone)]
pub(crate) struct LayerContent {
    /// Names the content.
    pub(crate) key: Digest,
    entries: Entries,
    files: Files,
}

#[derive(Clone)]
enum Entries {
    Manifest(Arc<Manifest>),
    List(Arc<Vec<Entry>>),
}

#[derive(Clone)]
enum Files {
    /// In one tree.
    Tree(TreeRoot),
    /// Each somewhere else.
    Places(Arc<BTreeMap<ImagePath, TreePath>>),
}

impl LayerContent {
    /// Entries with the places of their files, in path order.
    pub(crate) fn of(files: Vec<(Entry, TreePath)>) -> Self {
        let places = files
            .iter()
            .map(|(entry, place)| (entry.path.clone(), place.clone()))
            .collect();
        let entries: Vec<Entry> = files.into_iter().map(|(entry, _)| entry).collect();
        Self {
            key: Manifest::new(entries.clone()).id().0,
            entries: Entries::List(Arc::new(entries)),
            files: Files::Places(Arc::new(places)),
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.entries {
            Entries::Manifest(manifest) => manifest.entries(),
            Entries::List(entries) => entries,
        }
    }

    /// The bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.entries().iter().map(Entry::size).sum()
    }

    /// Where a file lies.
    pub(crate) fn place(&self, entry: &Entry) -> TreePath {
        match &self.files {
            Files::Tree(root) => root.join(entry.path.clone()),
            Files::Places(places) => {
                let nowhere = || TreeRoot::at("").join(entry.path.clone());
                places.get(&entry.path).cloned().unwrap_or_else(nowhere)
            }
        }
    }

    pub(crate) fn open(&self, entry: &Entry) -> std::io::Result<File> {
        self.place(entry).open_file()
    }
}

/// What a planned layer holds.
pub(crate) fn content_of(
    trees: &Snapshotter,
    layer: &PlannedLayer,
    events: &dyn EventSink,
) -> Result<LayerContent, EngineError> {
    let (layers, over_base) = match layer {
        PlannedLayer::Part { content, .. } => return Ok(content.clone()),
        PlannedLayer::Stack { layers, over_base } => (layers, *over_base),
    };
    let trees = trees.trees(&Snapshot::new(layers.clone()), events)?;
    if let [only] = &trees[..] {
        return Ok(LayerContent {
            key: only.id().0,
            entries: Entries::Manifest(only.manifest()?),
            files: Files::Tree(only.root()),
        });
    }
    let view = view_of(&trees)?;
    let files = if over_base {
        view.squash()
    } else {
        view.flatten()
    };
    let mut key = Encoder::new("kiln-joined", 1);
    key.bool(over_base);
    key.seq(&trees, |out, tree| {
        out.digest(&tree.id().0);
    });
    Ok(LayerContent {
        key: key.finish(),
        ..LayerContent::of(files)
    })
}
