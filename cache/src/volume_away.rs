//! Volumes that are moved away for the time of a step, and brought back after a crash: `away/` has a note of
//! each, in the form of `memo`.

use std::path::{Path, PathBuf};

use kiln_graph::ImagePath;
use kiln_tree::{Decision, Found, TreeRoot, host, walk};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::checked_text::read_checked;

/// Notes of volumes that are moved away.
pub(crate) const AWAY: &str = "away";

/// Where a volume's directory is while it is moved away.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Away {
    /// Somewhere below this directory.
    pub(crate) root: PathBuf,
    /// The directory's own number on its file system.
    pub(crate) inode: u64,
}

/// Moves a volume's directory back that was moved away, and forgets that it was.
pub(crate) fn bring_back(store: &Store, note: &Path, directory: &Path) {
    let Ok(Some(text)) = read_checked(note) else {
        return;
    };
    if !host::exists(directory)
        && let Ok(away) = serde_json::from_str::<Away>(&text)
        && away.root.starts_with(store.root())
        && let Some(parent) = directory.parent()
        && let Some(name) = directory.file_name()
    {
        let root = TreeRoot::at(away.root);
        let home = TreeRoot::at(parent).join(ImagePath::new(name.as_encoded_bytes()));
        if let Some(found) = find(&root, away.inode) {
            _ = root.rename(&found, &home);
        }
    }
    _ = host::remove_file(note);
}

/// The directory below `root` that has this number, no link followed.
fn find(root: &TreeRoot, inode: u64) -> Option<ImagePath> {
    let directories = |_: &ImagePath, is_directory: bool| match is_directory {
        true => Decision::Take,
        false => Decision::SkipAll,
    };
    let visit = |found: &Found<'_>| Ok((found.stat.st_ino == inode).then(|| found.path.clone()));
    let found = walk(root, &ImagePath::root(), &directories, &visit);
    found.ok()?.into_iter().next()
}
