//! Carries the actions out, one after the other; the files of one action in parallel.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_graph::{
    Chmod, CopyFiles, Digest, Entry, FileAction, Files, ImagePath, Manifest, Node, Owner,
    Timestamp, UnixId,
};
use kiln_tree::{OverlayXattrs, TreePath, TreeRoot};

use super::bring::{Job, bring};
use super::owner::owner_ids;
use super::place::{NewDirectory, Place};
use super::select::expand;
use super::unpack::unpack;
use super::{FilesError, Selected, difference, select};
use crate::view::{Found, Layer, View};

/// What an operation needs to know besides itself.
pub(crate) struct Surroundings<'a> {
    /// The tree that is changed.
    pub(crate) base: &'a View,
    /// The step's inputs by position.
    pub(crate) inputs: &'a [Arc<View>],
    /// The empty directory that becomes the change.
    pub(crate) directory: &'a TreeRoot,
    /// Where opaque directories are marked.
    pub(crate) xattrs: OverlayXattrs,
    /// Whether files can be given to their owners.
    pub(crate) give_away: bool,
    /// An earlier result of the same instruction, whose files may be shared.
    pub(crate) previous: Option<Layer>,
    /// The time that new things get.
    pub(crate) now: Timestamp,
    /// The store's directory: what lies in it doesn't change.
    pub(crate) store: &'a Path,
}

/// Carries an operation out; gives the entries of what it made.
pub(crate) fn apply(files: &Files, around: &Surroundings<'_>) -> Result<Manifest, FilesError> {
    if let [FileAction::Difference { lower, upper }] = files.actions[..] {
        let (lower, upper) = (lower.index(), upper.index());
        return difference::apply(&around.inputs[lower], &around.inputs[upper], around);
    }
    let mut place = Place::new(
        around.base,
        around.directory,
        around.xattrs,
        around.give_away,
        around.now,
    );
    for action in &files.actions {
        one(action, around, &mut place)?;
    }
    place.into_manifest()
}

fn one(
    action: &FileAction,
    around: &Surroundings<'_>,
    place: &mut Place<'_>,
) -> Result<(), FilesError> {
    match action {
        FileAction::Copy(copy) => copy_files(copy, around, place),
        FileAction::Directory { path, owner, mode } => {
            let (uid, gid) = owner_or_root(owner.as_ref(), around)?;
            let path = place.resolve(path, true);
            let mode = *mode;
            place.make_directories(&path, NewDirectory { mode, uid, gid })
        }
        FileAction::Write {
            dest,
            to_directory,
            name,
            content,
            mode,
            owner,
        } => {
            let owner = owner_or_root(owner.as_ref(), around)?;
            let new = NewDirectory {
                uid: owner.0,
                gid: owner.1,
                ..NewDirectory::default()
            };
            let path = destination(place, dest, *to_directory, name.as_bytes(), new)?;
            let node = Node::File {
                size: content.len() as u64,
                digest: Digest::of(content),
            };
            place.put_file(new_entry(path, *mode, owner, node, around), content)
        }
        FileAction::Symlink {
            path,
            target,
            owner,
        } => {
            let owner = owner_or_root(owner.as_ref(), around)?;
            let path = destination(place, path, false, b"", NewDirectory::default())?;
            let node = Node::Symlink {
                target: target.clone().into_bytes(),
            };
            place.put_special(new_entry(path, 0o777, owner, node, around))
        }
        FileAction::Remove {
            path,
            wildcard: true,
            allow_missing,
        } => {
            let pattern = String::from_utf8_lossy(path.relative_bytes()).into_owned();
            let found = expand(around.base, &pattern)?;
            if found.is_empty() && !allow_missing {
                return Err(FilesError::NotFound(path.to_string()));
            }
            found.iter().try_for_each(|path| place.remove(path))
        }
        FileAction::Difference { .. } => Err(FilesError::NotAlone),
        FileAction::Remove {
            path,
            allow_missing,
            ..
        } => {
            if place.get(path).is_none() && !allow_missing {
                return Err(FilesError::NotFound(path.to_string()));
            }
            place.remove(path)
        }
    }
}

/// Numbers for the owner of something new, which is root's if nobody is named.
fn owner_or_root(
    owner: Option<&Owner>,
    around: &Surroundings<'_>,
) -> Result<(u32, u32), FilesError> {
    Ok(owner_ids(owner, around.base)?.unwrap_or((0, 0)))
}

/// Something that no source has.
fn new_entry(
    path: ImagePath,
    mode: u32,
    (uid, gid): (u32, u32),
    node: Node,
    around: &Surroundings<'_>,
) -> Entry {
    Entry {
        mode,
        uid,
        gid,
        mtime: around.now,
        node,
        ..Entry::directory(path)
    }
}

pub(super) const ROOT: Owner = Owner::Ids {
    uid: UnixId::ROOT,
    gid: UnixId::ROOT,
};

/// Where a single file lands: in the directory that the destination is or must be, else at it. Links
/// in the destination are followed; one in the directory that has the file's name is replaced, as in
/// BuildKit.
fn destination(
    place: &mut Place<'_>,
    dest: &ImagePath,
    to_directory: bool,
    name: &[u8],
    new: NewDirectory,
) -> Result<ImagePath, FilesError> {
    let dest = place.resolve(dest, true);
    let is_directory = dest.is_root() || place.get(&dest).is_some_and(Entry::is_directory);
    let path = if to_directory || is_directory {
        dest.join(name)
    } else {
        dest
    };
    if let Some(parent) = path.parent() {
        place.make_directories(&parent, new)?;
    }
    Ok(path)
}

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

fn copy_files(
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
            Node::Directory { .. } if is_top => place.set_time(&entry.path, entry.mtime),
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
    if !selected.is_directory {
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
