//! Reads the user's own directories.

use std::path::Path;

use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node};
use kiln_tree::host;
use kiln_tree::{
    Found, Inode, TreeError, TreeRoot, Visit, Xattrs, hash_file, join_links, timestamp, walk,
};
use rayon::prelude::*;
use rustix::fs::FileType;

use super::stat_cache::{Known, StatCache};
use crate::error::Context as _;
use crate::{Store, StoreError};

pub use kiln_tree::Decision;

/// Which part of a directory is read.
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

/// Reads a directory, hashing only what changed since the store saw it last. Sockets are empty
/// files, as in BuildKit.
///
/// # Errors
/// When something can't be read, or changes meanwhile.
pub fn scan(
    store: &Store,
    directory: &Path,
    wanted: &Selection<'_>,
) -> Result<Manifest, StoreError> {
    let canonical = host::canonicalize(directory).context("open the directory", directory)?;
    let cache = StatCache::load(store.stat_cache_path(&canonical, wanted.roots));
    let tree = TreeRoot::at(canonical);
    let visit = |found: &Found<'_>| read(&tree, found, &cache);
    let mut entries = Vec::new();
    for root in wanted.roots {
        scan_root(&tree, root, wanted, &visit, &mut entries)?;
    }
    cache.save();
    entries.par_sort_by(|a: &Inode, b| a.entry.path.cmp(&b.entry.path));
    entries.dedup_by(|later, first| later.entry.path == first.entry.path);
    Ok(Manifest::new(join_links(entries)))
}

fn scan_root(
    directory: &TreeRoot,
    root: &ImagePath,
    wanted: &Selection<'_>,
    visit: Visit<'_, Inode>,
    entries: &mut Vec<Inode>,
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
        let Some((is_directory, entry)) = directory.visit(&path, look)? else {
            return Ok(());
        };
        entries.extend(entry);
        if blocked || !is_directory {
            return Ok(());
        }
    }
    entries.extend(walk(directory, root, wanted.filter, visit)?);
    Ok(())
}

fn read(root: &TreeRoot, found: &Found<'_>, cache: &StatCache) -> Result<Option<Inode>, TreeError> {
    let Some((node, xattrs)) = content(root, found, cache)? else {
        return Ok(None);
    };
    Ok(Some(Inode::new(entry(found, node, xattrs), &found.stat)))
}

fn entry(found: &Found<'_>, node: Node, xattrs: Xattrs) -> Entry {
    Entry {
        path: found.path.clone(),
        mode: found.stat.st_mode & 0o7777,
        uid: found.stat.st_uid,
        gid: found.stat.st_gid,
        mtime: timestamp(&found.stat),
        mtime_counts: false,
        xattrs,
        node,
    }
}

/// One directory below a directory of the user's, without what is in it; `None` where there is none.
///
/// # Errors
/// When it can't be read.
pub fn directory(root: &TreeRoot, path: &ImagePath) -> Result<Option<Entry>, StoreError> {
    let look = |found: &Found<'_>| match found.kind {
        FileType::Directory => Ok(Some(entry(found, DIRECTORY, own_xattrs(root, found)?))),
        _ => Ok(None),
    };
    Ok(root.visit(path, look)?.flatten())
}

const DIRECTORY: Node = Node::Directory { opaque: false };

fn own_xattrs(root: &TreeRoot, found: &Found<'_>) -> Result<Xattrs, TreeError> {
    let xattrs = found.xattrs(None, is_own);
    xattrs.map_err(failed(root, found, "read the attributes of"))
}

/// What something is, and its extended attributes.
fn content(
    root: &TreeRoot,
    found: &Found<'_>,
    cache: &StatCache,
) -> Result<Option<(Node, Xattrs)>, TreeError> {
    let device = found.stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = match found.kind {
        FileType::RegularFile => return file(root, found, cache).map(Some),
        FileType::Directory => return Ok(Some((DIRECTORY, own_xattrs(root, found)?))),
        FileType::Socket => Node::File {
            size: 0,
            digest: Digest::of(b""),
        },
        FileType::Symlink => Node::Symlink {
            target: found
                .read_link()
                .map_err(failed(root, found, "read the link"))?,
        },
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        FileType::Unknown => return Ok(None),
    };
    Ok(Some((node, Xattrs::new())))
}

fn file(
    root: &TreeRoot,
    found: &Found<'_>,
    cache: &StatCache,
) -> Result<(Node, Xattrs), TreeError> {
    let mut xattrs = None;
    let look = || {
        let file = found.open().map_err(failed(root, found, "read"))?;
        let own = found.xattrs(Some(&file), is_own);
        let own = own.map_err(failed(root, found, "read the attributes of"))?;
        let has_xattrs = !own.is_empty();
        xattrs = Some(own);
        let digest = hash_file(file, &found.stat).map_err(failed(root, found, "read"))?;
        let path = found.path.clone();
        let digest = digest.ok_or(TreeError::Changed { path })?;
        Ok(Known { digest, has_xattrs })
    };
    let known = cache.look_up(&found.stat, look)?;
    let xattrs = match (xattrs, known.has_xattrs) {
        (Some(read), _) => read,
        (None, false) => Xattrs::new(),
        (None, true) => {
            let own = found
                .open()
                .and_then(|file| found.xattrs(Some(&file), is_own));
            own.map_err(failed(root, found, "read the attributes of"))?
        }
    };
    let size = u64::try_from(found.stat.st_size).unwrap_or(0);
    let digest = known.digest;
    Ok((Node::File { size, digest }, xattrs))
}

/// Whether an attribute is a file's own, not one by which this machine handles it: capabilities, and
/// what users note.
fn is_own(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn failed<'a>(
    root: &'a TreeRoot,
    found: &'a Found<'_>,
    action: &'static str,
) -> impl Fn(std::io::Error) -> TreeError + 'a {
    move |source| TreeError::Io {
        action,
        path: found.path.under(root.path()),
        source,
    }
}
