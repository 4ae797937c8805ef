//! Reads what a step changed: the upper directory of an overlay mount.
//!
//! Whiteouts are character devices 0:0; opaque directories have the xattr `trusted.overlay.opaque`
//! or, in user namespaces, `user.overlay.opaque`, both `y` (Linux, `overlayfs.rst`).

use std::fs::File;

use kiln_graph::{Entry, ImagePath, Manifest, Node, Timestamp};
use rustix::fs::FileType;

use crate::error::Context as _;
use crate::xattr::Xattrs;
use crate::{
    Decision, Found, Inode, OverlayXattrs, TreeError, TreeRoot, hash_file, join_links, timestamp,
    walk,
};

/// How an upper directory is read.
pub struct UpperOptions<'a> {
    /// Where opaque directories are marked.
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

/// Reads the upper directory of an overlay mount.
///
/// # Errors
/// When something can't be read, or changes meanwhile.
pub fn scan(root: &TreeRoot, options: &UpperOptions<'_>) -> Result<Manifest, TreeError> {
    let take_all = |_: &ImagePath, _: bool| Decision::Take;
    let visit = |found: &Found<'_>| read(root, found, options).map(Some);
    let mut inodes = walk(root, &ImagePath::root(), &take_all, &visit)?;
    inodes.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    Ok(Manifest::new(join_links(inodes)))
}

fn read(
    root: &TreeRoot,
    found: &Found<'_>,
    options: &UpperOptions<'_>,
) -> Result<Inode, TreeError> {
    let stat = &found.stat;
    let file = match found.kind {
        FileType::RegularFile => Some(found.open().context("read", root.path(), &found.path)?),
        _ => None,
    };
    let (xattrs, opaque) = read_xattrs(root, found, file.as_ref(), options.xattrs)?;
    let node = match file {
        Some(file) => content(root, found, file)?,
        None => node(root, found, opaque)?,
    };
    let (uid, gid) = (options.owner)(&found.path, stat.st_uid, stat.st_gid);
    let mtime = timestamp(stat);
    let entry = match node {
        Node::Whiteout => whiteout(found.path.clone()),
        node => Entry {
            path: found.path.clone(),
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime,
            mtime_counts: mtime < options.started,
            xattrs,
            node,
        },
    };
    Ok(Inode::new(entry, stat))
}

fn content(root: &TreeRoot, found: &Found<'_>, file: File) -> Result<Node, TreeError> {
    let path = &found.path;
    let digest = hash_file(file, &found.stat).context("read", root.path(), path)?;
    Ok(Node::File {
        size: u64::try_from(found.stat.st_size).unwrap_or(0),
        digest: digest.ok_or_else(|| TreeError::Changed { path: path.clone() })?,
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

fn node(root: &TreeRoot, found: &Found<'_>, opaque: bool) -> Result<Node, TreeError> {
    let device = found.stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = &found.path;
    Ok(match found.kind {
        FileType::Directory => Node::Directory { opaque },
        FileType::Symlink => Node::Symlink {
            target: found
                .read_link()
                .context("read the link", root.path(), path)?,
        },
        FileType::CharacterDevice if device == 0 => Node::Whiteout,
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        _ => Node::Socket,
    })
}

fn read_xattrs(
    root: &TreeRoot,
    found: &Found<'_>,
    file: Option<&File>,
    style: OverlayXattrs,
) -> Result<(Xattrs, bool), TreeError> {
    let mark = style.opaque().as_bytes();
    let all = found.xattrs(file, |name| name == mark || belongs_to_image(name));
    let mut all = all.context("read the attributes of", root.path(), &found.path)?;
    let opaque = all.remove(mark).as_deref() == Some(b"y");
    Ok((all, opaque))
}

fn belongs_to_image(name: &[u8]) -> bool {
    let others: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
    !others.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Digest;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn scan_all(directory: &Path, started: Timestamp) -> Manifest {
        let owner = |_: &ImagePath, uid, gid| (uid, gid);
        let options = UpperOptions {
            xattrs: OverlayXattrs::Trusted,
            started,
            owner: &owner,
        };
        scan(&TreeRoot::at(directory), &options).unwrap()
    }

    #[test]
    fn files_links_and_times() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/one"), b"1").unwrap();
        std::fs::hard_link(at("d/one"), at("a-link")).unwrap();
        symlink("d/one", at("soft")).unwrap();
        let tree = scan_all(directory.path(), Timestamp::default());
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
            scan_all(directory.path(), later)
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
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let device = rustix::fs::makedev(0, 0);
        let kind = FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &gone, kind, 0.into(), device).unwrap();
        let fresh = directory.path().join("fresh");
        std::fs::create_dir(&fresh).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&fresh, "trusted.overlay.opaque", b"y", flags).unwrap();
        rustix::fs::setxattr(&fresh, "trusted.mine", b"1", flags).unwrap();
        let tree = scan_all(directory.path(), Timestamp::default());
        assert_eq!(tree.get(&"/gone".into()).unwrap().node, Node::Whiteout);
        let fresh = tree.get(&"/fresh".into()).unwrap();
        assert_eq!(fresh.node, Node::Directory { opaque: true });
        assert_eq!(
            fresh.xattrs,
            [(b"trusted.mine".to_vec(), b"1".to_vec())].into()
        );
    }
}
