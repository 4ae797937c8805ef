//! The files that a stack of trees shows: what overlayfs would, without mounting anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_cache::Tree;
use kiln_graph::{Entry, ImagePath, Manifest, Node, follow};
use kiln_solve::Directory;
use kiln_tree::{TreePath, TreeRoot};

use crate::EngineError;

/// One tree of a stack.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its entries.
    pub manifest: Arc<Manifest>,
    /// Where its files lie.
    pub root: TreeRoot,
}

/// No `/etc/passwd` of an honest image is larger, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// The merged files of a stack, lowest first.
#[derive(Clone, Debug, Default)]
pub struct View {
    layers: Vec<Layer>,
}

/// An entry that is visible.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The entry.
    pub entry: &'a Entry,
    layer: usize,
}

impl View {
    /// The files that these trees show, lowest first.
    #[must_use]
    pub fn new(layers: Vec<Layer>) -> Self {
        Self { layers }
    }

    /// The files of one directory of the user's.
    #[must_use]
    pub fn of_directory(directory: &Directory) -> Self {
        Self::new(vec![Layer {
            manifest: directory.manifest.clone(),
            root: TreeRoot::at(&directory.root),
        }])
    }

    /// Whether no step and no image made any of it: nothing but `scratch`.
    #[must_use]
    pub fn is_scratch(&self) -> bool {
        self.layers.is_empty()
    }

    /// The entry at a path, links not followed. Directories of several layers show the topmost.
    #[must_use]
    pub fn get(&self, path: &ImagePath) -> Option<Found<'_>> {
        for (layer, tree) in self.layers.iter().enumerate().rev() {
            if let Some(entry) = tree.manifest.get(path) {
                return (entry.node != Node::Whiteout).then_some(Found { entry, layer });
            }
            if self.hides_below(layer, path) {
                return None;
            }
        }
        None
    }

    /// Whether a layer hides what lower layers have at `path`.
    fn hides_below(&self, layer: usize, path: &ImagePath) -> bool {
        let manifest = &self.layers[layer].manifest;
        // A tree has all directories above what it has: where one is missing, so are those below it.
        let above = path.ancestors().skip(1);
        let above = above.map_while(|above| manifest.get(&above));
        let root = manifest.get(&ImagePath::root());
        root.into_iter().chain(above).any(Entry::hides_below)
    }

    /// Where the content of a file lies.
    #[must_use]
    pub fn place(&self, found: &Found<'_>) -> TreePath {
        let path = found.entry.path.clone();
        self.layers[found.layer].root.join(path)
    }

    /// What tells whether two names are of one file: its layer, and its first name there.
    #[must_use]
    pub fn file_of(&self, found: &Found<'_>) -> (usize, ImagePath) {
        let first = match &found.entry.node {
            Node::HardLink { to } => to,
            _ => &found.entry.path,
        };
        (found.layer, first.clone())
    }

    /// What a file is when it is another name of one: that one's entry.
    #[must_use]
    pub fn linked<'a>(&'a self, found: &Found<'a>) -> &'a Entry {
        match &found.entry.node {
            Node::HardLink { to } => self.layers[found.layer]
                .manifest
                .get(to)
                .unwrap_or(found.entry),
            _ => found.entry,
        }
    }

    /// `path` with the links in it followed inside the root, the last one if `follow_last`.
    /// Components that don't exist stay as they are; where links go in circles, the path ends at
    /// one of them.
    #[must_use]
    pub fn resolve(&self, path: &ImagePath, follow_last: bool) -> ImagePath {
        follow(path, follow_last, |path| Some(self.get(path)?.entry))
    }

    /// All that is visible at and below a directory, in path order.
    #[must_use]
    pub fn below(&self, directory: &ImagePath) -> Vec<Found<'_>> {
        if let [only] = &self.layers[..] {
            let visible = only.manifest.subtree(directory).iter();
            let visible = visible.filter(|entry| entry.node != Node::Whiteout);
            return visible.map(|entry| Found { entry, layer: 0 }).collect();
        }
        let mut merged: BTreeMap<&ImagePath, Found<'_>> = BTreeMap::new();
        for (layer, tree) in self.layers.iter().enumerate() {
            if self.hides_below(layer, directory) {
                merged.clear();
            }
            for entry in tree.manifest.subtree(directory) {
                hide(&mut merged, entry);
                if entry.node != Node::Whiteout {
                    merged.insert(&entry.path, Found { entry, layer });
                }
            }
        }
        merged.into_values().collect()
    }

    /// The names directly in a directory.
    #[must_use]
    pub fn names(&self, directory: &ImagePath) -> Vec<Vec<u8>> {
        let below = self.below(directory);
        let direct = below.iter().filter_map(|found| {
            let rest = found.entry.path.strip_prefix(directory)?;
            (!rest.is_empty() && !rest.contains(&b'/')).then(|| rest.to_vec())
        });
        direct.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Everything that is visible, as one tree with nothing below it.
    #[must_use]
    pub fn flatten(&self) -> Vec<(Entry, TreePath)> {
        self.one_tree_below(&ImagePath::root())
    }

    /// What is visible at and below a path, as one tree.
    #[must_use]
    pub fn one_tree_below(&self, path: &ImagePath) -> Vec<(Entry, TreePath)> {
        let visible = self.below(path).into_iter();
        self.as_one_tree(&visible.map(|found| (found, false)).collect::<Vec<_>>())
    }

    /// Entries of several layers as those of one tree, each with whether it hides what is below
    /// the stack; links whose first name is hidden become files.
    fn as_one_tree(&self, visible: &[(Found<'_>, bool)]) -> Vec<(Entry, TreePath)> {
        let mut first: BTreeMap<(usize, ImagePath), ImagePath> = BTreeMap::new();
        let mut all = Vec::with_capacity(visible.len());
        for (found, hides) in visible {
            let mut entry = found.entry.clone();
            let file = match &entry.node {
                Node::File { .. } => Some(entry.path.clone()),
                Node::HardLink { to } => Some(to.clone()),
                _ => None,
            };
            if let Some(file) = file {
                let name = first
                    .entry((found.layer, file))
                    .or_insert_with(|| entry.path.clone());
                entry.node = if *name == entry.path {
                    self.linked(found).node.clone()
                } else {
                    Node::HardLink { to: name.clone() }
                };
            }
            if let Node::Directory { opaque } = &mut entry.node {
                *opaque = *hides;
            }
            all.push((entry, self.place(found)));
        }
        all
    }

    /// The stack as one tree over whatever is below it: what it hides there stays hidden.
    #[must_use]
    pub fn squash(&self) -> Vec<(Entry, TreePath)> {
        let mut merged: BTreeMap<&ImagePath, (Found<'_>, bool)> = BTreeMap::new();
        for (layer, tree) in self.layers.iter().enumerate() {
            for entry in tree.manifest.entries() {
                let before = merged.get(&entry.path);
                let hides = match before.map(|(found, hides)| (&found.entry.node, *hides)) {
                    None => false,
                    Some((Node::Directory { .. }, hides)) => hides,
                    Some(_) => true,
                };
                hide(&mut merged, entry);
                let opaque = entry.node == (Node::Directory { opaque: true });
                merged.insert(&entry.path, (Found { entry, layer }, hides || opaque));
            }
        }
        let visible: Vec<(Found<'_>, bool)> = merged.into_values().collect();
        self.as_one_tree(&visible)
    }

    /// The directories that overlayfs must stack to show one directory of this view, lowest first.
    #[must_use]
    pub fn stack_of(&self, directory: &ImagePath) -> Vec<TreePath> {
        let mut stack = Vec::new();
        for (layer, tree) in self.layers.iter().enumerate().rev() {
            let entry = tree.manifest.get(directory);
            let is_directory = directory.is_root() || entry.is_some_and(Entry::is_directory);
            if is_directory {
                stack.push(tree.root.join(directory.clone()));
            }
            let is_opaque =
                entry.is_some_and(|entry| entry.node != Node::Directory { opaque: false });
            if is_opaque || self.hides_below(layer, directory) {
                break;
            }
        }
        stack.reverse();
        stack
    }

    /// A small text file, such as `/etc/passwd`; empty when there is none, or when it is something
    /// else: a pipe, a device, a link that goes in circles, a very large file.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        let path = self.resolve(&ImagePath::new(path), true);
        let is_file = |found: &Found<'_>| matches!(self.linked(found).node, Node::File { .. });
        let file = self.get(&path).filter(is_file);
        let bytes = file
            .map(|file| self.place(&file))
            .and_then(|place| place.root.read(&place.path, MAX_TEXT).ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Takes away what an upper layer's entry hides.
fn hide<'a, T>(merged: &mut BTreeMap<&'a ImagePath, T>, entry: &'a Entry) {
    if entry.node == (Node::Directory { opaque: false }) {
        return;
    }
    let hidden: Vec<&ImagePath> = merged
        .range::<&ImagePath, _>(&entry.path..)
        .map(|(path, _)| *path)
        .take_while(|path| path.starts_with(&entry.path))
        .collect();
    for path in hidden {
        merged.remove(path);
    }
}

/// The files that a stack of trees shows.
///
/// # Errors
/// When a manifest can't be read.
pub fn view_of(trees: &[Tree]) -> Result<View, EngineError> {
    let layers = trees.iter().map(layer_of);
    Ok(View::new(layers.collect::<Result<_, _>>()?))
}

/// A tree of the store, as one of a stack.
pub(crate) fn layer_of(tree: &Tree) -> Result<Layer, EngineError> {
    Ok(Layer {
        manifest: tree.manifest()?,
        root: tree.root(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn layer(root: &str, entries: &[(&str, Node)]) -> Layer {
        let entry = |(path, node): &(&str, Node)| Entry {
            node: node.clone(),
            ..Entry::directory(ImagePath::new(path))
        };
        Layer {
            manifest: Arc::new(entries.iter().map(entry).collect()),
            root: TreeRoot::at(root),
        }
    }

    fn file() -> Node {
        Node::File {
            size: 0,
            digest: kiln_graph::Digest::of(b""),
        }
    }

    const DIR: Node = Node::Directory { opaque: false };

    fn link(target: &str) -> Node {
        Node::Symlink {
            target: target.into(),
        }
    }

    fn paths(view: &View) -> Vec<String> {
        view.below(&ImagePath::root())
            .iter()
            .map(|found| found.entry.path.to_string())
            .collect()
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let base = [
            ("/a", DIR),
            ("/a/x", file()),
            ("/a/y", file()),
            ("/b", file()),
            ("/o", DIR),
            ("/o/old", file()),
        ];
        let top = [
            ("/a", DIR),
            ("/a/x", Node::Whiteout),
            ("/b", DIR),
            ("/b/new", file()),
            ("/o", Node::Directory { opaque: true }),
        ];
        let view = View::new(vec![layer("1", &base), layer("2", &top)]);
        assert_eq!(paths(&view), ["/a", "/a/y", "/b", "/b/new", "/o"]);
        assert!(view.get(&"/o/old".into()).is_none());
        assert!(view.get(&"/a/x".into()).is_none());
        let y = view.get(&"/a/y".into()).unwrap();
        assert_eq!(view.place(&y).display(), PathBuf::from("1/a/y"));
        let stack = |path: &str| -> Vec<PathBuf> {
            let stack = view.stack_of(&path.into());
            stack.iter().map(TreePath::display).collect()
        };
        assert_eq!(stack("/a"), [PathBuf::from("1/a"), "2/a".into()]);
        assert_eq!(stack("/o"), [PathBuf::from("2/o")]);
        assert_eq!(view.names(&"/a".into()), [b"y"]);
    }

    #[test]
    fn a_squashed_stack_still_hides_what_is_below_it() {
        let lower = [
            ("/gone", Node::Whiteout),
            ("/d", Node::Whiteout),
            ("/f", file()),
        ];
        let upper = [("/d", DIR), ("/d/new", file()), ("/f", DIR), ("/g", DIR)];
        let view = View::new(vec![layer("1", &lower), layer("2", &upper)]);
        let nodes: Vec<(String, Node)> = view
            .squash()
            .into_iter()
            .map(|(entry, _)| (entry.path.to_string(), entry.node))
            .collect();
        let opaque = Node::Directory { opaque: true };
        let want = [
            ("/d", opaque.clone()),
            ("/d/new", file()),
            ("/f", opaque),
            ("/g", DIR),
            ("/gone", Node::Whiteout),
        ];
        assert_eq!(nodes, want.map(|(path, node)| (path.to_owned(), node)));
    }

    #[test]
    fn links_stay_inside_the_root() {
        let entries = [
            ("/d", DIR),
            ("/d/up", link("../../../f")),
            ("/f", file()),
            ("/abs", link("/d")),
            ("/loop", link("loop")),
        ];
        let view = View::new(vec![layer("1", &entries)]);
        let resolve = |path: &str, last| view.resolve(&ImagePath::new(path), last).to_string();
        assert_eq!(resolve("/d/up", true), "/f");
        assert_eq!(resolve("/d/up", false), "/d/up");
        assert_eq!(resolve("/abs/up", true), "/f");
        assert_eq!(resolve("/abs/new/x", true), "/d/new/x");
        assert_eq!(resolve("/loop", true), "/loop");
    }
}
