//! Owner, mode, extended attributes and time of what is in a tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kiln_graph::{Entry, ImagePath, Node, Timestamp};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::held::HeldPath;
use crate::{OverlayXattrs, TreeRoot, xattr};

impl TreeRoot {
    /// Gives what lies at the entry's path its owner (if `give_away`), mode, attributes and time.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_attributes(&self, entry: &Entry, give_away: bool) -> io::Result<()> {
        set_held(&self.hold(&entry.path)?, entry, give_away)
    }

    /// Sets the time of what lies at a path, a link itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_time(&self, path: &ImagePath, time: Timestamp) -> io::Result<()> {
        set_held_time(&self.hold(path)?, time)
    }

    /// Sets the permission bits of a file or directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_mode(&self, path: &ImagePath, mode: u32) -> io::Result<()> {
        set_held_mode(&self.hold(path)?, mode)
    }

    /// Sets the owner of what lies at a path.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_owner(&self, path: &ImagePath, uid: u32, gid: u32) -> io::Result<()> {
        set_held_owner(&self.hold(path)?, uid, gid)
    }

    /// Marks a directory so that overlayfs shows nothing of what lower layers have in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn mark_opaque(&self, path: &ImagePath, xattrs: OverlayXattrs) -> io::Result<()> {
        Ok(xattr::set(
            &self.hold(path)?,
            xattrs.opaque().as_bytes(),
            b"y",
        )?)
    }
}

/// Gives an open file the entry's owner (if `give_away`), mode, attributes and time.
///
/// # Errors
/// What the system says.
pub fn set_file_attributes(file: &File, entry: &Entry, give_away: bool) -> io::Result<()> {
    if give_away {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    set_xattrs(file, entry, give_away)?;
    Ok(rustix::fs::futimens(file, &times(entry.mtime))?)
}

/// Owner first: changing it takes setuid bits and capabilities away.
fn set_held(held: &OwnedFd, entry: &Entry, give_away: bool) -> io::Result<()> {
    if give_away {
        set_held_owner(held, entry.uid, entry.gid)?;
    }
    if !matches!(entry.node, Node::Symlink { .. }) {
        set_held_mode(held, entry.mode)?;
    }
    set_xattrs(held, entry, give_away)?;
    set_held_time(held, entry.mtime)
}

fn set_held_owner(held: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let flags = AtFlags::EMPTY_PATH;
    Ok(rustix::fs::chownat(held, "", Some(uid), Some(gid), flags)?)
}

fn set_held_mode(held: &OwnedFd, mode: u32) -> io::Result<()> {
    Ok(HeldPath::of(held).set_mode(Mode::from_raw_mode(mode))?)
}

fn set_held_time(held: &OwnedFd, time: Timestamp) -> io::Result<()> {
    Ok(HeldPath::of(held).set_times(&times(time))?)
}

/// Where owners can't be given, some attributes can't either: only the manifest has them.
fn set_xattrs(held: &impl AsFd, entry: &Entry, give_away: bool) -> io::Result<()> {
    for (name, value) in &entry.xattrs {
        match xattr::set(held, name, value) {
            Err(Errno::PERM | Errno::NOTSUP) if !give_away => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(time: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    /// A link gets its own attributes, and what it points to keeps its own.
    #[test]
    fn links_are_changed_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        std::fs::write(&outside, "").unwrap();
        let before = std::fs::metadata(&outside).unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        let root = TreeRoot::at(&tree);
        let time = Timestamp {
            seconds: 12345,
            nanos: 6,
        };
        let entry = Entry {
            mode: 0o777,
            mtime: time,
            node: Node::Symlink { target: Vec::new() },
            ..Entry::directory("/link".into())
        };
        root.set_attributes(&entry, false).unwrap();
        let link = std::fs::symlink_metadata(tree.join("link")).unwrap();
        assert_eq!((link.mtime(), link.mtime_nsec()), (12345, 6));
        let after = std::fs::metadata(&outside).unwrap();
        assert_eq!(
            (before.mtime(), before.mtime_nsec(), before.mode()),
            (after.mtime(), after.mtime_nsec(), after.mode())
        );
        root.set_mode(&"/".into(), 0o700).unwrap();
        assert_eq!(std::fs::metadata(&tree).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn special_files_get_mode_and_time_unopened() {
        let directory = tempfile::tempdir().unwrap();
        let root = TreeRoot::at(directory.path());
        root.create_node(&"/pipe".into(), &Node::Fifo).unwrap();
        let entry = Entry {
            mode: 0o640,
            mtime: Timestamp {
                seconds: 7,
                nanos: 0,
            },
            node: Node::Fifo,
            ..Entry::directory("/pipe".into())
        };
        // Opening it would wait for a writer for ever.
        root.set_attributes(&entry, false).unwrap();
        let pipe = std::fs::symlink_metadata(directory.path().join("pipe")).unwrap();
        assert_eq!((pipe.mode() & 0o7777, pipe.mtime()), (0o640, 7));
    }
}
