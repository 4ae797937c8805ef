//! Copies parts of the user's directories into the store, where they can be mounted.

use kiln_cache::Tree;
use kiln_graph::{Entry, ImagePath, Manifest, Node};
use kiln_solve::Directory;
use kiln_tree::{TreeRoot, set_file_attributes};
use rayon::prelude::*;

use crate::EngineError;
use crate::files::{FilesError, copy_file};
use crate::snapshotter::Snapshotter;
use crate::view::View;

/// Copies a part of a user's directory into the store.
pub(crate) fn import(
    trees: &Snapshotter,
    directory: &Directory,
    part: &ImagePath,
) -> Result<Tree, EngineError> {
    let owned_by_root = |entry: &Entry| Entry {
        uid: 0,
        gid: 0,
        ..entry.clone()
    };
    let whole = View::of_directory(directory);
    let wanted = whole.one_tree_below(part);
    let manifest: Manifest = wanted
        .iter()
        .map(|(entry, _)| owned_by_root(entry))
        .collect();
    if let Some(tree) = trees.store.trees().get(&manifest.id())? {
        return Ok(tree);
    }
    let staging = trees.store.staging()?;
    let from = TreeRoot::at(&directory.root);
    let imported = import_entries(&manifest, &from, staging.root(), part, trees.gives_away);
    imported.map_err(|source| EngineError::Files {
        location: None,
        source,
    })?;
    Ok(trees.store.trees().commit(staging, manifest)?)
}

fn import_entries(
    manifest: &Manifest,
    from: &TreeRoot,
    to: &TreeRoot,
    part: &ImagePath,
    give_away: bool,
) -> Result<(), FilesError> {
    let fail = |entry: &Entry, source| FilesError::Io {
        action: "copy",
        path: entry.path.clone(),
        source,
    };
    for above in part.ancestors().filter(|above| !above.is_root()) {
        _ = to.create_directory(&above);
    }
    let (directories, others): (Vec<&Entry>, Vec<&Entry>) = manifest
        .entries()
        .iter()
        .partition(|entry| entry.is_directory());
    for directory in &directories {
        let made = to.create_directory(&directory.path);
        made.map_err(|e| fail(directory, e))?;
    }
    others
        .par_iter()
        .with_min_len(16)
        .try_for_each(|entry| import_one(entry, from, to, give_away).map_err(|e| fail(entry, e)))?;
    for entry in &others {
        if let Node::HardLink { to: first } = &entry.node {
            let linked = to.link(&entry.path, &to.join(first.clone()));
            linked.map_err(|e| fail(entry, e))?;
        }
    }
    for directory in directories.iter().rev() {
        let set = to.set_attributes(directory, give_away);
        set.map_err(|e| fail(directory, e))?;
    }
    Ok(())
}

fn import_one(
    entry: &Entry,
    from: &TreeRoot,
    to: &TreeRoot,
    give_away: bool,
) -> std::io::Result<()> {
    match &entry.node {
        Node::Symlink { target } => {
            to.create_symlink(&entry.path, target)?;
            to.set_attributes(entry, give_away)
        }
        Node::File { .. } => {
            let copy = copy_file(entry, &from.join(entry.path.clone()), to, true)?;
            set_file_attributes(&copy, entry, give_away)
        }
        _ => Ok(()),
    }
}
