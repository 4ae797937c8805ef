//! Carries actions out, one after the other.

use kiln_graph::{Digest, Entry, FileAction, Files, ImagePath, Manifest, Node, Owner};

use super::copy::copy_files;
use super::destination::destination;
use super::owner::owner_ids;
use super::place::{NewDirectory, Place};
use super::select::expand;
use super::surroundings::Surroundings;
use super::{FilesError, difference};

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
            let path = destination(place, dest, *to_directory, name.as_bytes(), of(owner))?;
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
            wildcard,
            allow_missing,
        } => {
            let found = match wildcard {
                true => matching(path, around)?,
                false => place.get(path).map(|_| path.clone()).into_iter().collect(),
            };
            match found.is_empty() && !allow_missing {
                true => Err(FilesError::NotFound(path.to_string())),
                false => found.iter().try_for_each(|path| place.remove(path)),
            }
        }
        FileAction::Difference { .. } => Err(FilesError::NotAlone),
    }
}

/// What a pattern names in the tree that is changed.
fn matching(path: &ImagePath, around: &Surroundings<'_>) -> Result<Vec<ImagePath>, FilesError> {
    let pattern = String::from_utf8_lossy(path.relative_bytes()).into_owned();
    expand(around.base, &pattern)
}

/// Numbers for the owner of something new, which is root's if nobody is named.
fn owner_or_root(
    owner: Option<&Owner>,
    around: &Surroundings<'_>,
) -> Result<(u32, u32), FilesError> {
    Ok(owner_ids(owner, around.base)?.unwrap_or((0, 0)))
}

/// Directories above something new, whose owner they get.
fn of((uid, gid): (u32, u32)) -> NewDirectory {
    NewDirectory {
        uid,
        gid,
        ..NewDirectory::default()
    }
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
