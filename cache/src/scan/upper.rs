//! Reads what a step changed: the upper folder of an overlay mount.
//!
//! Whiteouts are character devices 0:0; opaque folders have the xattr `trusted.overlay.opaque`
//! or, in user namespaces, `user.overlay.opaque`, both `y` (Linux, `overlayfs.rst`).

use std::collections::BTreeMap;
use std::path::Path;

use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node, Timestamp};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::hash::hash_file;
use super::walk::{Decision, Found, walk};
use crate::error::Context as _;
use crate::{OverlayXattrs, StoreError};

/// How an upper folder is read.
pub struct UpperOptions<'a> {
    /// Where opaque folders are marked.
    pub xattrs: OverlayXattrs,
    /// When the step started: times from then on are the step's "now" and don't count.
    pub started: Timestamp,
    /// Says who owns a path, from the owner on disk; for stores that can't give files away.
    pub owner: &'a (dyn Fn(&ImagePath, u32, u32) -> (u32, u32) + Sync),
}

impl std::fmt::Debug for UpperOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpperOptions")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

struct Inode {
    entry: Entry,
    id: (u64, u64),
    links: u64,
}

/// Reads the upper folder of an overlay mount.
///
/// # Errors
/// When something can't be read, or changes meanwhile.
pub fn scan(folder: &Path, options: &UpperOptions<'_>) -> Result<Manifest, StoreError> {
    let take_all = |_: &ImagePath, _: bool| Decision::Take;
    let visit = |found: Found| read(&found, options).map(Some);
    let mut inodes = walk(folder, &ImagePath::root(), &take_all, &visit)?;
    inodes.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    Ok(Manifest::new(join_links(inodes)))
}

/// Turns all but the first name of a file with several into hard links.
fn join_links(inodes: Vec<Inode>) -> Vec<Entry> {
    let mut first_names: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
    let mut entries = Vec::with_capacity(inodes.len());
    for Inode {
        mut entry,
        id,
        links,
    } in inodes
    {
        if links > 1 && matches!(entry.node, Node::File { .. }) {
            match first_names.get(&id) {
                Some(to) => entry.node = Node::HardLink { to: to.clone() },
                None => _ = first_names.insert(id, entry.path.clone()),
            }
        }
        entries.push(entry);
    }
    entries
}

fn read(found: &Found, options: &UpperOptions<'_>) -> Result<Inode, StoreError> {
    let stat = &found.stat;
    let (xattrs, opaque) = read_xattrs(found, options.xattrs)?;
    let (uid, gid) = (options.owner)(&found.path, stat.st_uid, stat.st_gid);
    let mtime = timestamp(stat);
    let entry = Entry {
        path: found.path.clone(),
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
        mtime,
        mtime_counts: mtime < options.started,
        xattrs,
        node: node(found, opaque)?,
    };
    let entry = if entry.node == Node::Whiteout {
        whiteout(entry.path)
    } else {
        entry
    };
    Ok(Inode {
        entry,
        id: (stat.st_dev, stat.st_ino),
        links: stat.st_nlink,
    })
}

/// A whiteout's own attributes mean nothing.
fn whiteout(path: ImagePath) -> Entry {
    Entry {
        mode: 0,
        node: Node::Whiteout,
        ..Entry::directory(path)
    }
}

pub(crate) fn timestamp(stat: &Stat) -> Timestamp {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp {
        seconds: stat.st_mtime,
        nanos,
    }
}

fn node(found: &Found, opaque: bool) -> Result<Node, StoreError> {
    let device = found.stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(match found.kind {
        FileType::RegularFile => {
            let digest = hash_file(&found.host, &found.path, &found.stat)?;
            Node::File {
                size: u64::try_from(found.stat.st_size).unwrap_or(0),
                digest,
            }
        }
        FileType::Directory => Node::Directory { opaque },
        FileType::Symlink => Node::Symlink {
            target: read_link(&found.host)?,
        },
        FileType::CharacterDevice if device == 0 => Node::Whiteout,
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        _ => Node::Socket,
    })
}

pub(crate) fn read_link(host: &Path) -> Result<Vec<u8>, StoreError> {
    let target = rustix::fs::readlink(host, Vec::new()).context("read the link", host)?;
    Ok(target.into_bytes())
}

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

fn read_xattrs(found: &Found, style: OverlayXattrs) -> Result<(Xattrs, bool), StoreError> {
    let mut kept = Xattrs::new();
    let mut opaque = false;
    for name in list_xattrs(&found.host)? {
        if name == style.opaque().as_bytes() {
            opaque = value(&found.host, &name)?.as_deref() == Some(b"y");
        } else if belongs_to_image(&name) {
            kept.extend(value(&found.host, &name)?.map(|value| (name, value)));
        }
    }
    Ok((kept, opaque))
}

fn belongs_to_image(name: &[u8]) -> bool {
    let others: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
    !others.iter().any(|prefix| name.starts_with(prefix))
}

fn list_xattrs(host: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut names = [0u8; 64];
    let count = match rustix::fs::llistxattr(host, &mut names) {
        Ok(count) => return Ok(split_names(&names[..count])),
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => 64 * 1024,
        Err(error) => return Err(error).context("list the attributes of", host),
    };
    let mut names = vec![0; count];
    let count = rustix::fs::llistxattr(host, &mut names).context("list the attributes of", host)?;
    Ok(split_names(&names[..count]))
}

fn split_names(names: &[u8]) -> Vec<Vec<u8>> {
    names
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn value(host: &Path, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut value = vec![0; 64 * 1024];
    match rustix::fs::lgetxattr(host, name, &mut value) {
        Ok(count) => {
            value.truncate(count);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::PERM) => Ok(None),
        Err(error) => Err(error).context("read an attribute of", host),
    }
}

/// Hashes one file outside of a scan, for example one that a build file names.
///
/// # Errors
/// When it can't be read, or changes meanwhile.
pub fn digest_of(host: &Path, path: &ImagePath) -> Result<Digest, StoreError> {
    let stat = rustix::fs::stat(host).context("look at", host)?;
    hash_file(host, path, &stat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scan_all(folder: &Path, started: Timestamp) -> Manifest {
        let owner = |_: &ImagePath, uid, gid| (uid, gid);
        let options = UpperOptions {
            xattrs: OverlayXattrs::Trusted,
            started,
            owner: &owner,
        };
        scan(folder, &options).unwrap()
    }

    #[test]
    fn files_links_and_times() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/one"), b"1").unwrap();
        std::fs::hard_link(at("d/one"), at("a-link")).unwrap();
        symlink("d/one", at("soft")).unwrap();
        let tree = scan_all(folder.path(), Timestamp::default());
        let node = |path: &str| tree.get(&path.into()).unwrap().node.clone();
        assert_eq!(
            node("/a-link"),
            Node::File {
                size: 1,
                digest: Digest::of(b"1")
            }
        );
        assert_eq!(
            node("/d/one"),
            Node::HardLink {
                to: "/a-link".into()
            }
        );
        assert_eq!(
            node("/soft"),
            Node::Symlink {
                target: b"d/one".to_vec()
            }
        );
        assert!(tree.entries().iter().all(|entry| !entry.mtime_counts));
        let later = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert!(
            scan_all(folder.path(), later)
                .entries()
                .iter()
                .all(|entry| entry.mtime_counts)
        );
    }

    #[test]
    fn overlay_marks_are_read_as_what_they_mean() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let device = rustix::fs::makedev(0, 0);
        let kind = FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &gone, kind, 0.into(), device).unwrap();
        let fresh = folder.path().join("fresh");
        std::fs::create_dir(&fresh).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&fresh, "trusted.overlay.opaque", b"y", flags).unwrap();
        rustix::fs::setxattr(&fresh, "trusted.mine", b"1", flags).unwrap();
        let tree = scan_all(folder.path(), Timestamp::default());
        assert_eq!(tree.get(&"/gone".into()).unwrap().node, Node::Whiteout);
        let fresh = tree.get(&"/fresh".into()).unwrap();
        assert_eq!(fresh.node, Node::Directory { opaque: true });
        assert_eq!(
            fresh.xattrs,
            [(b"trusted.mine".to_vec(), b"1".to_vec())].into()
        );
    }
}
