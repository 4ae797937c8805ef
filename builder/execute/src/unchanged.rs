//! What a diff has but doesn't change: overlayfs copies a file up whole when its owner is set to the
//! one that it has, and a COPY may bring what is there already. Neither belongs into a layer.

use std::collections::BTreeSet;

use kiln_graph::{Entry, ImagePath, Manifest, Node};
use kiln_tree::TreeRoot;

use crate::view::View;

/// Takes what is as in the base out of a diff: of the manifest, and of the directory.
pub(crate) fn without_unchanged(manifest: Manifest, base: &View, directory: &TreeRoot) -> Manifest {
    let mut gone = BTreeSet::new();
    for entry in unchanged(&manifest, base).into_iter().rev() {
        let removed = match entry.is_directory() {
            true => directory.remove_directory(&entry.path),
            false => directory.remove(&entry.path),
        };
        // What can't be removed stays: the diff is still a right one.
        if removed.is_ok() {
            gone.insert(entry.path.clone());
        }
    }
    if gone.is_empty() {
        return manifest;
    }
    let entries = manifest.into_entries().into_iter();
    entries
        .filter(|entry| !gone.contains(&entry.path))
        .collect()
}

/// The entries that show nothing but what the base shows at their paths, in path order. A directory
/// is one when all that the diff has below it are.
fn unchanged<'a>(manifest: &'a Manifest, base: &View) -> Vec<&'a Entry> {
    let merged = merged_directories(manifest, base);
    let linked: BTreeSet<&ImagePath> = manifest.entries().iter().filter_map(link_target).collect();
    let mut kept_directories = BTreeSet::new();
    let mut found = Vec::new();
    for entry in manifest.entries().iter().rev() {
        let Some(parent) = entry.path.parent() else {
            continue;
        };
        let may_be_in_base = match entry.is_directory() {
            true => merged.contains(&entry.path) && !kept_directories.contains(&entry.path),
            false => {
                let has_one_name = link_target(entry).is_none() && !linked.contains(&entry.path);
                has_one_name && merged.contains(&parent)
            }
        };
        match may_be_in_base && is_in_base(entry, base) {
            true => found.push(entry),
            false => _ = kept_directories.insert(parent),
        }
    }
    found.reverse();
    found
}

/// The directories of a diff in which the base's entries still show. Nothing else needs to be looked
/// up in the base: what a step made in directories of its own is new.
fn merged_directories(manifest: &Manifest, base: &View) -> BTreeSet<ImagePath> {
    let mut merged = BTreeSet::from([ImagePath::root()]);
    for entry in manifest.entries() {
        let Node::Directory { opaque } = entry.node else {
            continue;
        };
        let is_merged = !opaque
            && entry.path.parent().is_none_or(|parent| {
                let was = merged.contains(&parent).then(|| base.get(&entry.path));
                was.flatten().is_some_and(|was| was.entry.is_directory())
            });
        match is_merged {
            true => _ = merged.insert(entry.path.clone()),
            false => _ = merged.remove(&entry.path),
        }
    }
    merged
}

fn link_target(entry: &Entry) -> Option<&ImagePath> {
    match &entry.node {
        Node::HardLink { to } => Some(to),
        _ => None,
    }
}

fn is_in_base(entry: &Entry, base: &View) -> bool {
    base.get(&entry.path)
        .is_some_and(|was| is_same(was.entry, &base.linked(&was).node, entry))
}

/// Whether an entry is as it was; `was_node` is the file where `was` is another name of one. The time
/// of a directory changes with what is in it, so it is compared only where a step set it (BuildKit's
/// layers leave it out everywhere).
pub(crate) fn is_same(was: &Entry, was_node: &Node, is: &Entry) -> bool {
    let directories = was.is_directory() && is.is_directory();
    let attributes =
        (was.mode, was.uid, was.gid, &was.xattrs) == (is.mode, is.uid, is.gid, &is.xattrs);
    let same_time = was.mtime == is.mtime;
    match directories {
        true => attributes && (same_time || !is.mtime_counts),
        false => attributes && same_time && *was_node == is.node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_entry::{directory, file};
    use crate::view::Layer;
    use kiln_graph::Timestamp;
    use std::path::Path;
    use std::sync::Arc;

    fn base() -> View {
        let entries = [directory("/d"), file("/d/a", "1"), file("/d/b", "1")];
        View::new(vec![Layer {
            manifest: Arc::new(entries.into_iter().collect()),
            root: TreeRoot::at(Path::new("/nowhere")),
        }])
    }

    fn kept(diff: impl IntoIterator<Item = Entry>) -> Vec<String> {
        let manifest: Manifest = diff.into_iter().collect();
        let base = base();
        let gone = unchanged(&manifest, &base);
        let kept = manifest
            .entries()
            .iter()
            .filter(|entry| !gone.contains(entry));
        kept.map(|entry| entry.path.to_string()).collect()
    }

    #[test]
    fn what_differs_stays_with_the_directories_above_it() {
        let owned = Entry {
            uid: 5,
            ..file("/d/a", "1")
        };
        let later = Entry {
            mtime: Timestamp {
                seconds: 1,
                nanos: 0,
            },
            ..file("/d/a", "1")
        };
        let opaque = Entry {
            node: Node::Directory { opaque: true },
            ..directory("/d")
        };
        let second_name = Entry {
            node: Node::HardLink { to: "/d/a".into() },
            ..file("/d/z", "1")
        };
        let cases = [
            (
                vec![directory("/d"), file("/d/a", "1"), file("/d/b", "1")],
                vec![],
            ),
            (
                vec![directory("/d"), file("/d/a", "1"), file("/d/b", "2")],
                vec!["/d", "/d/b"],
            ),
            (vec![directory("/d"), owned], vec!["/d", "/d/a"]),
            (vec![directory("/d"), later], vec!["/d", "/d/a"]),
            (vec![opaque, file("/d/a", "1")], vec!["/d", "/d/a"]),
            (
                vec![directory("/d"), file("/d/a", "1"), second_name],
                vec!["/d", "/d/a", "/d/z"],
            ),
        ];
        for (diff, expected) in cases {
            assert_eq!(kept(diff), expected);
        }
    }

    #[test]
    fn the_time_of_a_directory_counts_where_a_step_set_it() {
        let touched = |counts| Entry {
            mtime: Timestamp {
                seconds: 1,
                nanos: 0,
            },
            mtime_counts: counts,
            ..directory("/d")
        };
        assert_eq!(kept([touched(false)]), Vec::<String>::new());
        assert_eq!(kept([touched(true)]), ["/d"]);
    }
}
