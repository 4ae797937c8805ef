//! Splits a tree into several that show the same when stacked.
//!
//! What hides things of the base (whiteouts, opaque directories, a file where a directory was) goes into
//! the lowest part; every part has the directories above its own files; hard links go where the
//! file they name is.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::pattern::matches_deep;
use kiln_graph::{Entry, ImagePath, Node};
use kiln_tree::TreePath;

use super::{LayerContent, PlannedLayer};

/// Paths that go into a layer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The layer's name.
    pub name: String,
    /// Patterns as in `.dockerignore`: `usr/lib/**`, `**/*.so`.
    pub paths: Vec<String>,
}

/// One part for each rule that names something, and one with the rest.
pub(super) fn by_rules(content: &LayerContent, rules: &[PathRule]) -> Vec<PlannedLayer> {
    let part_of = |path: &ImagePath| {
        let named = |rule: &PathRule| {
            let mut patterns = rule.paths.iter();
            patterns.any(|pattern| {
                let pattern = pattern.trim_start_matches('/');
                let mut all = path.ancestors().chain([path.clone()]);
                all.any(|path| matches_deep(pattern, path.relative_bytes()))
            })
        };
        rules.iter().position(named).unwrap_or(rules.len())
    };
    let mut names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    names.push("rest".to_owned());
    by(content, &names, part_of)
}

/// Splits by a function from paths to parts, lowest first; parts without files fall away.
pub(super) fn by(
    content: &LayerContent,
    names: &[String],
    part_of: impl Fn(&ImagePath) -> usize,
) -> Vec<PlannedLayer> {
    let entries = content.entries();
    let files = entries.iter().filter(|entry| !entry.is_directory());
    let lowest = files.clone().filter_map(|entry| place_of(entry, &part_of));
    let lowest = lowest.min().unwrap_or(0);
    let places: BTreeMap<&ImagePath, usize> = files
        .map(|entry| (&entry.path, place_of(entry, &part_of).unwrap_or(lowest)))
        .collect();
    let empty_directories = lonely_directories(entries);
    let mut parts = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let own = |entry: &&Entry| match places.get(&entry.path) {
            Some(place) => *place == number,
            None if entry.node == (Node::Directory { opaque: true }) => number == lowest,
            None => {
                let part = part_of(&entry.path).max(lowest);
                empty_directories.contains(&entry.path) && part == number
            }
        };
        let chosen: BTreeSet<&ImagePath> = entries
            .iter()
            .filter(own)
            .map(|entry| &entry.path)
            .collect();
        if chosen.is_empty() {
            continue;
        }
        let files = with_directories(content, &chosen, parts.is_empty());
        parts.push(PlannedLayer::Part {
            name: name.clone(),
            content: LayerContent::of(files),
        });
    }
    parts
}

/// Links go where the file they name is; what only hides something has no place of its own.
fn place_of(entry: &Entry, part_of: &impl Fn(&ImagePath) -> usize) -> Option<usize> {
    match &entry.node {
        Node::Whiteout => None,
        Node::HardLink { to } => Some(part_of(to)),
        _ => Some(part_of(&entry.path)),
    }
}

/// Directories with nothing below them.
fn lonely_directories(entries: &[Entry]) -> BTreeSet<ImagePath> {
    let mut lonely = BTreeSet::new();
    for (at, entry) in entries.iter().enumerate() {
        let next = entries.get(at + 1);
        let has_children = next.is_some_and(|next| next.path.starts_with(&entry.path));
        if entry.is_directory() && !has_children {
            lonely.insert(entry.path.clone());
        }
    }
    lonely
}

/// The chosen entries and the directories above them. Only in the lowest part do directories hide what
/// the base has: above it that would hide the other parts, too.
fn with_directories(
    content: &LayerContent,
    chosen: &BTreeSet<&ImagePath>,
    is_lowest: bool,
) -> Vec<(Entry, TreePath)> {
    let above: BTreeSet<ImagePath> = chosen.iter().flat_map(|path| path.ancestors()).collect();
    let wanted = |entry: &&Entry| chosen.contains(&entry.path) || above.contains(&entry.path);
    let prepared = |entry: &Entry| {
        let mut own = entry.clone();
        if let Node::Directory { opaque } = &mut own.node {
            *opaque &= is_lowest;
        }
        (own, content.place(entry))
    };
    content
        .entries()
        .iter()
        .filter(wanted)
        .map(prepared)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_execute::{Layer, View};
    use kiln_graph::{Digest, Manifest};
    use kiln_tree::TreeRoot;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn node(kind: u8, path: &str) -> Node {
        match kind {
            0 => Node::Directory { opaque: false },
            1 => Node::Directory { opaque: true },
            2 => Node::Whiteout,
            _ => Node::File {
                size: 1,
                digest: Digest::of(path.as_bytes()),
            },
        }
    }

    /// A tree whose parents are all directories, as a scan of an upper directory gives.
    fn tree(paths: &[(String, u8)]) -> Vec<(Entry, TreePath)> {
        let mut all: BTreeMap<ImagePath, Entry> = BTreeMap::new();
        for (path, kind) in paths {
            let path = ImagePath::new(path);
            for parent in path.ancestors().filter(|parent| !parent.is_root()) {
                let entry = all
                    .entry(parent.clone())
                    .or_insert(Entry::directory(parent));
                if !entry.is_directory() {
                    entry.node = Node::Directory { opaque: true };
                }
            }
            let has_children = all
                .keys()
                .any(|other| *other != path && other.starts_with(&path));
            if !has_children && !path.is_root() {
                let node = node(*kind, &path.to_string());
                all.insert(
                    path.clone(),
                    Entry {
                        node,
                        ..Entry::directory(path)
                    },
                );
            }
        }
        all.into_values()
            .map(|entry| {
                let place = TreeRoot::at("").join(entry.path.clone());
                (entry, place)
            })
            .collect()
    }

    fn layer(entries: Vec<Entry>) -> Layer {
        Layer {
            manifest: Arc::new(Manifest::new(entries)),
            root: TreeRoot::at(""),
        }
    }

    fn shown(layers: Vec<Layer>) -> Vec<Entry> {
        let files = View::new(layers).flatten();
        files.into_iter().map(|(entry, _)| entry).collect()
    }

    proptest! {
        #[test]
        fn the_parts_show_what_the_whole_showed(
            base in prop::collection::vec(("/[a-c]{1}(/[a-c]{1}){0,2}", 3u8..5), 0..12),
            top in prop::collection::vec(("/[a-c]{1}(/[a-c]{1}){0,2}", 0u8..5), 0..12),
            count in 1usize..4,
        ) {
            let base: Vec<Entry> = tree(&base).into_iter().map(|(entry, _)| entry).collect();
            let top = tree(&top);
            let content = LayerContent::of(top.clone());
            let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            let parts = by(&content, &names, |path| {
                usize::from(path.relative_bytes().last().copied().unwrap_or(0)) % count
            });
            let whole = vec![
                layer(base.clone()),
                layer(top.into_iter().map(|(entry, _)| entry).collect()),
            ];
            let mut split = vec![layer(base)];
            split.extend(parts.iter().map(|part| match part {
                PlannedLayer::Part { content, .. } => layer(content.entries().to_vec()),
                PlannedLayer::Stack { .. } => layer(Vec::new()),
            }));
            prop_assert_eq!(shown(split), shown(whole));
        }
    }
}
