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
    let linked: BTreeSet<&ImagePath> = manifest.entries().iter().filter_map(link_target).collect();
    let mut kept_directories = BTreeSet::new();
    let mut found = Vec::new();
    for entry in manifest.entries().iter().rev() {
        let has_one_name = link_target(entry).is_none() && !linked.contains(&entry.path);
        let is_dropped = !entry.path.is_root()
            && has_one_name
            && !kept_directories.contains(&entry.path)
            && !is_hidden(manifest, &entry.path)
            && is_in_base(entry, base);
        match is_dropped {
            true => found.push(entry),
            false => kept_directories.extend(entry.path.parent()),
        }
    }
    found.reverse();
    found
}

fn link_target(entry: &Entry) -> Option<&ImagePath> {
    match &entry.node {
        Node::HardLink { to } => Some(to),
        _ => None,
    }
}

/// Whether the diff hides what the base has at a path.
fn is_hidden(manifest: &Manifest, path: &ImagePath) -> bool {
    let is_opaque = |above: ImagePath| {
        let entry = manifest.get(&above);
        entry.is_some_and(|entry| matches!(entry.node, Node::Directory { opaque: true }))
    };
    path.ancestors().chain([path.clone()]).any(is_opaque)
}

fn is_in_base(entry: &Entry, base: &View) -> bool {
    base.get(&entry.path).is_some_and(|was| {
        let was = Entry {
            node: base.linked(&was).node.clone(),
            ..was.entry.clone()
        };
        is_same(&was, entry)
    })
}

/// Whether an entry is as it was. The time of a directory changes with what is in it, so it is
/// compared only where a step set it (BuildKit's layers leave it out everywhere).
pub(crate) fn is_same(was: &Entry, is: &Entry) -> bool {
    let directories = was.is_directory() && is.is_directory();
    let attributes =
        (was.mode, was.uid, was.gid, &was.xattrs) == (is.mode, is.uid, is.gid, &is.xattrs);
    let same_time = was.mtime == is.mtime;
    match directories {
        true => attributes && (same_time || !is.mtime_counts),
        false => attributes && same_time && was.node == is.node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Layer;
    use kiln_graph::{Digest, Timestamp};
    use std::path::Path;
    use std::sync::Arc;

    fn file(path: &str, content: &str) -> Entry {
        let node = Node::File {
            size: content.len() as u64,
            digest: Digest::of(content.as_bytes()),
        };
        Entry {
            node,
            ..Entry::directory(path.into())
        }
    }

    fn directory(path: &str) -> Entry {
        Entry::directory(path.into())
    }

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
