//! Steps where overlayfs can't be mounted: the root is copied before, and compared afterwards.

use std::collections::BTreeSet;
use std::io;

use kiln_cache::Staging;
use kiln_graph::{Entry, ImagePath, Manifest, Node};
use kiln_tree::{Sharing, TreePath, TreeRoot, copy_tree};

use crate::EngineError;
use crate::snapshotter::Snapshotter;
use crate::unchanged::is_same;
use crate::view::View;

/// Copies files of a stack into an empty directory.
pub(super) fn copy_out(
    trees: &Snapshotter,
    files: &[(Entry, TreePath)],
    staging: &Staging,
) -> Result<(), EngineError> {
    let sharing = Sharing::ContentOnly;
    copy_tree(files, staging.root(), trees.gives_away, sharing).map_err(|source| {
        EngineError::Output {
            what: "a copy of the root".to_owned(),
            source,
        }
    })
}

/// What a step changed in a copy of `base` that shows `after` now: the changed files are moved into
/// a directory of their own, as overlayfs would have left them.
pub(super) fn changes(
    trees: &Snapshotter,
    copy: &Staging,
    base: &View,
    after: &Manifest,
) -> Result<(Staging, Manifest), EngineError> {
    let before: Manifest = base.flatten().into_iter().map(|(entry, _)| entry).collect();
    let changes = difference(&before, after);
    let staging = trees.store.staging()?;
    move_changes(trees, &changes, copy.root(), staging.root()).map_err(|source| {
        EngineError::Output {
            what: "what the step changed".to_owned(),
            source,
        }
    })?;
    Ok((staging, changes))
}

fn move_changes(
    trees: &Snapshotter,
    changes: &Manifest,
    from: &TreeRoot,
    to: &TreeRoot,
) -> io::Result<()> {
    for entry in changes.entries() {
        let path = &entry.path;
        match &entry.node {
            Node::Directory { opaque } => {
                to.create_directory(path)?;
                if *opaque {
                    to.mark_opaque(path, trees.store.xattrs())?;
                }
            }
            Node::Whiteout => to.create_special(path, &Node::Whiteout)?,
            _ => from.rename(path, &to.join(path.clone()))?,
        }
    }
    let directories = changes.entries().iter().rev();
    for entry in directories.filter(|entry| entry.is_directory()) {
        to.set_attributes(entry, trees.gives_away)?;
    }
    Ok(())
}

/// What must lie over `before` to show `after`.
fn difference(before: &Manifest, after: &Manifest) -> Manifest {
    let mut changed: Vec<Entry> = Vec::new();
    let mut kept_groups: BTreeSet<ImagePath> = BTreeSet::new();
    for entry in after.entries() {
        let was = before.get(&entry.path);
        let group = match &entry.node {
            Node::HardLink { to } => to.clone(),
            _ => entry.path.clone(),
        };
        let same = was.is_some_and(|was| is_same(was, &was.node, entry));
        if !same || kept_groups.contains(&group) {
            kept_groups.insert(group);
            let mut entry = entry.clone();
            let replaces = was.is_some_and(|was| !was.is_directory());
            if let Node::Directory { opaque } = &mut entry.node {
                *opaque = replaces;
            }
            changed.push(entry);
        }
    }
    changed.extend(
        before
            .entries()
            .iter()
            .filter(|was| is_removed(was, before, after))
            .map(|was| Entry {
                mode: 0,
                node: Node::Whiteout,
                ..Entry::directory(was.path.clone())
            }),
    );
    with_first_names(with_directories(changed, after), after)
}

/// Whether a path is gone while its directory is still there.
fn is_removed(was: &Entry, before: &Manifest, after: &Manifest) -> bool {
    let parent = was.path.parent().filter(|parent| !parent.is_root());
    let directory_stays = parent.is_none_or(|parent| {
        let is_directory =
            |manifest: &Manifest| manifest.get(&parent).is_some_and(Entry::is_directory);
        is_directory(before) && is_directory(after)
    });
    directory_stays && after.get(&was.path).is_none()
}

/// A hard link needs its first name in the same tree.
fn with_first_names(changed: Manifest, after: &Manifest) -> Manifest {
    let missing: Vec<Entry> = changed
        .entries()
        .iter()
        .filter_map(|entry| match &entry.node {
            Node::HardLink { to } if changed.get(to).is_none() => after.get(to).cloned(),
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return changed;
    }
    with_directories(
        changed.into_entries().into_iter().chain(missing).collect(),
        after,
    )
}

fn with_directories(changed: Vec<Entry>, after: &Manifest) -> Manifest {
    let mut directories: BTreeSet<ImagePath> = BTreeSet::new();
    for entry in &changed {
        directories.extend(entry.path.ancestors().filter(|above| !above.is_root()));
    }
    for entry in &changed {
        directories.remove(&entry.path);
    }
    let directories = directories
        .iter()
        .filter_map(|directory| after.get(directory).cloned());
    directories.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_entry::{directory, file};

    #[test]
    fn what_overlayfs_would_have_left() {
        let before = [
            directory("/d"),
            file("/d/a", "1"),
            file("/d/b", "1"),
            directory("/gone"),
            file("/gone/x", ""),
            file("/f", ""),
        ];
        let after = [
            directory("/d"),
            file("/d/a", "1"),
            file("/d/b", "2"),
            directory("/f"),
            file("/f/new", ""),
        ];
        let changes = difference(&before.into_iter().collect(), &after.into_iter().collect());
        let shown: Vec<String> = changes
            .entries()
            .iter()
            .map(|entry| match &entry.node {
                Node::Whiteout => format!("-{}", entry.path),
                Node::Directory { opaque: true } => format!("!{}", entry.path),
                _ => entry.path.to_string(),
            })
            .collect();
        assert_eq!(shown, ["/d", "/d/b", "!/f", "/f/new", "-/gone"]);
    }
}
