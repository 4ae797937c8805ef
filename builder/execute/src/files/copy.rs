//! Copies what a selection has to where it belongs: directories and special files at once, files in parallel.

use std::collections::BTreeMap;

use kiln_graph::{Chmod, CopyFiles, Entry, ImagePath, Node, Owner, UnixId};
use kiln_tree::TreePath;

use super::bring::{Job, bring};
use super::destination::destination;
use super::owner::owner_ids;
use super::place::{NewDirectory, Place};
use super::surroundings::Surroundings;
use super::unpack::unpack;
use super::{FilesError, Selected, select};
use crate::view::{Found, View};

pub(super) const ROOT: Owner = Owner::Ids {
    uid: UnixId::ROOT,
    gid: UnixId::ROOT,
};

/// What happens to the attributes of everything copied.
pub(super) struct Changes<'a> {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) chmod: Option<&'a Chmod>,
}

impl Changes<'_> {
    pub(super) fn new_directory(&self) -> NewDirectory {
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        // As in BuildKit: directories that nothing was copied from have permissions only, and clauses
        // change what is copied.
        let mode = self.chmod.and_then(Chmod::as_octal);
        let mode = mode.map_or(0o755, |mode| mode & 0o777);
        NewDirectory { mode, uid, gid }
    }

    fn apply(&self, entry: &mut Entry) {
        if let Some(ids) = self.owner {
            (entry.uid, entry.gid) = ids;
        }
        if let Some(chmod) = self
            .chmod
            .filter(|_| !matches!(entry.node, Node::Symlink { .. }))
        {
            entry.mode = chmod.apply(entry.mode, entry.is_directory());
        }
        entry.mtime_counts = false;
    }
}

/// Copies what an action names.
pub(super) fn copy_files(
    copy: &CopyFiles,
    around: &Surroundings<'_>,
    place: &mut Place<'_>,
) -> Result<(), FilesError> {
    let source = &around.inputs[copy.from.index()];
    let changes = Changes {
        owner: owner_ids(copy.owner.as_ref(), around.base)?,
        chmod: copy.chmod.as_ref(),
    };
    if copy.parents {
        let dest = place.resolve(&copy.dest, true);
        place.make_directories(&dest, changes.new_directory())?;
    }
    for selected in select(source, copy)? {
        if copy.unpack
            && !selected.is_directory
            && unpack(source, &selected, copy, &changes, place)?
        {
            continue;
        }
        copy_one(source, &selected, copy, &changes, around, place)?;
    }
    Ok(())
}

/// Copies one source.
pub(super) fn copy_one(
    source: &View,
    selected: &Selected,
    copy: &CopyFiles,
    changes: &Changes<'_>,
    around: &Surroundings<'_>,
    place: &mut Place<'_>,
) -> Result<(), FilesError> {
    let top = top_path(selected, copy, changes, place)?;
    let mut jobs = Vec::new();
    let mut links = Links::of(source, selected);
    for relative in &selected.entries {
        let Some(found) = source.get(&selected.root.join(relative.relative_bytes())) else {
            continue;
        };
        let mut entry = found.entry.clone();
        entry.node = source.linked(&found).node.clone();
        let is_top = relative.is_root();
        entry.path = if is_top {
            top.clone()
        } else {
            place.resolve(&top.join(relative.relative_bytes()), false)
        };
        changes.apply(&mut entry);
        if let Some(to) = links.placed_before(source, &found, &entry.path) {
            entry.node = Node::HardLink { to };
        }
        match entry.node {
            // The destination is no copy of the source, but it gets its time, as in BuildKit.
            Node::Directory { .. } if is_top && selected.name.is_empty() => {
                place.set_time(&entry.path, entry.mtime);
            }
            Node::Directory { .. } if selected.parents.binary_search(relative).is_ok() => {
                put_parent(entry, found.entry.mode, place)?;
            }
            Node::Directory { .. } => put_directory(entry, place)?,
            Node::File { .. } | Node::HardLink { .. } => {
                jobs.push(job(entry, source.place(&found), place)?);
            }
            _ => {
                parent_of(&entry.path, changes, place)?;
                refuse_directory(&entry.path, place)?;
                place.put_special(entry)?;
            }
        }
        if let Some(last) = jobs.last() {
            place.note(last.entry.clone());
        }
    }
    bring(&jobs, around)
}

/// Which files of one source are one file with several names: so they are where they are copied to.
struct Links {
    /// Where the first of the names was placed, by the file's layer and first name in the source.
    first: BTreeMap<(usize, ImagePath), Option<ImagePath>>,
}

impl Links {
    fn of(source: &View, selected: &Selected) -> Self {
        let found = selected.entries.iter().filter_map(|relative| {
            let found = source.get(&selected.root.join(relative.relative_bytes()))?;
            matches!(found.entry.node, Node::HardLink { .. }).then(|| source.file_of(&found))
        });
        Self {
            first: found.map(|file| (file, None)).collect(),
        }
    }

    /// Where another name of the same file was placed; else notes that one is placed at `path`.
    fn placed_before(
        &mut self,
        source: &View,
        found: &Found<'_>,
        path: &ImagePath,
    ) -> Option<ImagePath> {
        if self.first.is_empty() {
            return None;
        }
        let place = self.first.get_mut(&source.file_of(found))?;
        match place {
            // In a tree, a file's first name comes before the others.
            Some(first) if *first < *path => return Some(first.clone()),
            Some(_) => {}
            None => *place = Some(path.clone()),
        }
        None
    }
}

/// A directory of the source over whatever is there.
fn put_directory(entry: Entry, place: &mut Place<'_>) -> Result<(), FilesError> {
    if place
        .get(&entry.path)
        .is_some_and(|there| !there.is_directory())
    {
        return Err(FilesError::DirectoryOverFile { path: entry.path });
    }
    if let Some(parent) = entry.path.parent() {
        place.make_directories(&parent, NewDirectory::default())?;
    }
    place.put_directory(entry)
}

/// A directory that is taken for what is below it: one that is there gets the source's mode and
/// nothing else, as in BuildKit.
fn put_parent(entry: Entry, mode: u32, place: &mut Place<'_>) -> Result<(), FilesError> {
    let there = place.get(&entry.path).filter(|there| there.is_directory());
    match there.cloned() {
        Some(there) => put_directory(Entry { mode, ..there }, place),
        None => put_directory(entry, place),
    }
}

fn parent_of(
    path: &ImagePath,
    changes: &Changes<'_>,
    place: &mut Place<'_>,
) -> Result<(), FilesError> {
    path.parent().map_or(Ok(()), |parent| {
        place.make_directories(&parent, changes.new_directory())
    })
}

/// A file doesn't take the place of a directory with all that is in it.
fn refuse_directory(path: &ImagePath, place: &Place<'_>) -> Result<(), FilesError> {
    if path.is_root() || place.get(path).is_some_and(Entry::is_directory) {
        return Err(FilesError::FileOverDirectory { path: path.clone() });
    }
    Ok(())
}

fn job(entry: Entry, from: TreePath, place: &mut Place<'_>) -> Result<Job, FilesError> {
    refuse_directory(&entry.path, place)?;
    if let Some(parent) = entry.path.parent() {
        place.make_directories(&parent, NewDirectory::default())?;
    }
    place.clear(&entry.path)?;
    Ok(Job { entry, from })
}

/// Where the source itself lands, with the directories above it made.
fn top_path(
    selected: &Selected,
    copy: &CopyFiles,
    changes: &Changes<'_>,
    place: &mut Place<'_>,
) -> Result<ImagePath, FilesError> {
    let new = changes.new_directory();
    if !selected.is_directory || !selected.name.is_empty() {
        return destination(place, &copy.dest, copy.to_directory, &selected.name, new);
    }
    let dest = place.resolve(&copy.dest, true);
    if place.get(&dest).is_some_and(|there| !there.is_directory()) {
        return Err(FilesError::DirectoryOverFile { path: dest });
    }
    if place.get(&dest).is_none() && !dest.is_root() {
        parent_of(&dest, changes, place)?;
    }
    place.make_directories(&dest, new)?;
    Ok(dest)
}
