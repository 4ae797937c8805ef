//! Reads the user's own folders.

use std::path::Path;

use kiln_graph::{Entry, ImagePath, Manifest, Node};
use rayon::prelude::*;
use rustix::fs::{FileType, Stat};

use super::hash::hash_file;
use super::stat_cache::StatCache;
use super::upper::{read_link, timestamp};
use super::walk::{Found, walk};
use crate::error::Context as _;
use crate::{Store, StoreError};

pub use super::walk::Decision;

/// Which part of a folder is read.
pub struct Selection<'a> {
    /// The subtrees wanted; the root for everything. Missing ones are left out.
    pub roots: &'a [ImagePath],
    /// Decides about each path met.
    pub filter: &'a (dyn Fn(&ImagePath, bool) -> Decision + Sync),
}

impl std::fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection")
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// Reads a folder, hashing only what changed since the store saw it last. Sockets are left out.
///
/// # Errors
/// When something can't be read, or changes meanwhile.
pub fn scan(store: &Store, folder: &Path, wanted: &Selection<'_>) -> Result<Manifest, StoreError> {
    let canonical = folder.canonicalize().context("open the folder", folder)?;
    let cache = StatCache::load(store.stat_cache_path(&canonical, wanted.roots));
    let visit = |found: Found| read(&found, &cache);
    let mut entries = Vec::new();
    for root in wanted.roots {
        scan_root(&canonical, root, wanted, &visit, &mut entries)?;
    }
    cache.save();
    entries.par_sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Manifest::new(entries))
}

fn scan_root(
    folder: &Path,
    root: &ImagePath,
    wanted: &Selection<'_>,
    visit: &(dyn Fn(Found) -> Result<Option<Entry>, StoreError> + Sync),
    entries: &mut Vec<Entry>,
) -> Result<(), StoreError> {
    let mut blocked = false;
    for path in root
        .ancestors()
        .chain([root.clone()])
        .filter(|path| !path.is_root())
    {
        let Some(found) = look(folder, &path)? else {
            return Ok(());
        };
        let is_directory = found.kind == FileType::Directory;
        let decision = (wanted.filter)(&path, is_directory);
        blocked |= decision == Decision::SkipAll;
        if decision == Decision::Take {
            entries.extend(visit(found)?);
        }
        if blocked || !is_directory {
            return Ok(());
        }
    }
    entries.extend(walk(&root.under(folder), root, wanted.filter, visit)?);
    Ok(())
}

fn look(folder: &Path, path: &ImagePath) -> Result<Option<Found>, StoreError> {
    let host = path.under(folder);
    match rustix::fs::lstat(&host) {
        Ok(stat) => {
            let kind = FileType::from_raw_mode(stat.st_mode);
            Ok(Some(Found {
                path: path.clone(),
                host,
                stat,
                kind,
            }))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).context("look at", &host),
    }
}

fn read(found: &Found, cache: &StatCache) -> Result<Option<Entry>, StoreError> {
    let Some(node) = node(found, cache)? else {
        return Ok(None);
    };
    let Stat {
        st_mode: mode,
        st_uid: uid,
        st_gid: gid,
        ..
    } = found.stat;
    let mtime = timestamp(&found.stat);
    let path = found.path.clone();
    let (mode, xattrs) = (mode & 0o7777, std::collections::BTreeMap::new());
    Ok(Some(Entry {
        path,
        mode,
        uid,
        gid,
        mtime,
        mtime_counts: false,
        xattrs,
        node,
    }))
}

fn node(found: &Found, cache: &StatCache) -> Result<Option<Node>, StoreError> {
    let device = found.stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(Some(match found.kind {
        FileType::RegularFile => {
            let hash = || hash_file(&found.host, &found.path, &found.stat);
            let digest = cache.digest(&found.stat, hash)?;
            Node::File {
                size: u64::try_from(found.stat.st_size).unwrap_or(0),
                digest,
            }
        }
        FileType::Directory => Node::Directory { opaque: false },
        FileType::Symlink => Node::Symlink {
            target: read_link(&found.host)?,
        },
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        _ => return Ok(None),
    }))
}
