//! Reads the user's own folders.

use std::path::Path;

use kiln_graph::{Entry, ImagePath, Manifest, Node};
use kiln_tree::{Found, TreeError, TreeRoot, Visit, hash_file, timestamp, walk};
use rayon::prelude::*;
use rustix::fs::{FileType, Stat};

use super::stat_cache::StatCache;
use crate::error::Context as _;
use crate::{Store, StoreError};

pub use kiln_tree::Decision;

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
    let tree = TreeRoot::at(canonical);
    let visit = |found: &Found<'_>| read(&tree, found, &cache);
    let mut entries = Vec::new();
    for root in wanted.roots {
        scan_root(&tree, root, wanted, &visit, &mut entries)?;
    }
    cache.save();
    entries.par_sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Manifest::new(entries))
}

fn scan_root(
    folder: &TreeRoot,
    root: &ImagePath,
    wanted: &Selection<'_>,
    visit: Visit<'_, Entry>,
    entries: &mut Vec<Entry>,
) -> Result<(), StoreError> {
    let mut blocked = false;
    for path in root
        .ancestors()
        .chain([root.clone()])
        .filter(|path| !path.is_root())
    {
        let look = |found: &Found<'_>| {
            let is_directory = found.kind == FileType::Directory;
            let decision = (wanted.filter)(&path, is_directory);
            blocked |= decision == Decision::SkipAll;
            let entry = match decision {
                Decision::Take => visit(found)?,
                Decision::Skip | Decision::SkipAll => None,
            };
            Ok((is_directory, entry))
        };
        let Some((is_directory, entry)) = folder.visit(&path, look)? else {
            return Ok(());
        };
        entries.extend(entry);
        if blocked || !is_directory {
            return Ok(());
        }
    }
    entries.extend(walk(folder, root, wanted.filter, visit)?);
    Ok(())
}

fn read(root: &TreeRoot, found: &Found<'_>, cache: &StatCache) -> Result<Option<Entry>, TreeError> {
    let Some(node) = node(root, found, cache)? else {
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

fn node(root: &TreeRoot, found: &Found<'_>, cache: &StatCache) -> Result<Option<Node>, TreeError> {
    let failed = |action| {
        move |source| TreeError::Io {
            action,
            path: found.path.under(root.path()),
            source,
        }
    };
    let device = found.stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(Some(match found.kind {
        FileType::RegularFile => {
            let hash = || {
                let digest = found.open().and_then(|file| hash_file(file, &found.stat));
                let path = found.path.clone();
                digest
                    .map_err(failed("read"))?
                    .ok_or(TreeError::Changed { path })
            };
            let digest = cache.digest(&found.stat, hash)?;
            Node::File {
                size: u64::try_from(found.stat.st_size).unwrap_or(0),
                digest,
            }
        }
        FileType::Directory => Node::Directory { opaque: false },
        FileType::Symlink => Node::Symlink {
            target: found.read_link().map_err(failed("read the link"))?,
        },
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        _ => return Ok(None),
    }))
}
