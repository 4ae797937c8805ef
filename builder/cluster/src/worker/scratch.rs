//! Where a worker's store is: in memory, where what is to be unpacked is a small part of it, or where
//! overlayfs can't be used in the action's directory; else in that directory. To make and remove the
//! files of a root takes several times as long on a disk. It is removed on all ways out; what is in
//! memory goes with a helper that is killed, and the rest is left to the worker, which removes the
//! action's directory.

use std::path::{Path, PathBuf};

use kiln_sandbox::{Identity, own_mounts};
use kiln_tree::{host, remove_all};
use rustix::fs::{XattrFlags, setxattr, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::memory;

const NAME: &str = "kiln-scratch";

/// File systems that overlayfs can't write to (`statfs(2)`).
const FUSE: u64 = 0x6573_5546;
const OVERLAYFS: u64 = 0x794c_7630;

/// Of the memory that there is, one of so many parts is used.
const SHARE: u64 = 2;
/// And so many times what is to be unpacked must fit into that, for steps write as well.
const ROOM: u64 = 3;

/// A directory that goes with the value.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    is_mounted: bool,
    /// Whether a disk would serve as well.
    has_choice: bool,
}

impl Scratch {
    /// In memory where that is better, for roots of so many bytes.
    pub(super) fn new(identity: Identity, expected: u64) -> Result<Self, String> {
        let mut scratch = Self::on_disk()?;
        scratch.has_choice = !needs_memory(&scratch.path);
        let size = match scratch.has_choice {
            true => size_for(expected, memory::available()),
            false => Some(String::new()),
        };
        if let Some(size) = size {
            // The machine's root has no mounts of its own yet, which go with the process.
            let may_mount = identity.is_in_user_namespace() || own_mounts().is_ok();
            scratch.is_mounted = may_mount && mount_memory(&scratch.path, &size);
        }
        Ok(scratch)
    }

    /// In the action's directory.
    pub(super) fn on_disk() -> Result<Self, String> {
        let path = std::env::current_dir().map(|directory| directory.join(NAME));
        let path = path.map_err(|error| error.to_string())?;
        let fail = |error| format!("{} can't be made: {error}", path.display());
        host::create_dir_all(&path).map_err(fail)?;
        Ok(Self {
            path,
            is_mounted: false,
            has_choice: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is more room on the disk.
    pub(super) fn may_be_larger(&self) -> bool {
        self.is_mounted && self.has_choice
    }

    /// Whether less than a quarter of it is left.
    pub(super) fn is_tight(&self) -> bool {
        statvfs(&self.path).is_ok_and(|about| about.f_bavail < about.f_blocks / 4)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_mounted {
            _ = unmount(&self.path, UnmountFlags::DETACH);
        }
        remove_all(&self.path);
    }
}

/// The size of a file system in memory, as it is mounted with; nothing where roots of so many bytes are
/// too large for the memory there is.
fn size_for(expected: u64, available: Option<u64>) -> Option<String> {
    let size = available? / SHARE;
    let fits = expected
        .checked_mul(ROOM)
        .is_some_and(|needed| needed <= size);
    fits.then(|| format!(",size={size}"))
}

fn needs_memory(path: &Path) -> bool {
    let kind = rustix::fs::statfs(path).map(|about| about.f_type);
    let kind = kind.ok().and_then(|kind| u64::try_from(kind).ok());
    kind.is_some_and(|kind| matches!(kind, FUSE | OVERLAYFS))
}

fn mount_memory(path: &Path, size: &str) -> bool {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let Ok(options) = std::ffi::CString::new(format!("mode=0700{size}")) else {
        return false;
    };
    if mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str())).is_err() {
        return false;
    }
    // Before Linux 6.6 it takes no attributes of users, which overlayfs needs there.
    let takes_attributes = setxattr(path, "user.kiln", b"", XattrFlags::empty()).is_ok();
    if !takes_attributes && !size.is_empty() {
        _ = unmount(path, UnmountFlags::DETACH);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_where_roots_are_a_small_part_of_it() {
        let size = |expected, available| size_for(expected, available);
        assert_eq!(size(100, Some(1000)), Some(",size=500".to_owned()));
        assert_eq!(size(200, Some(1000)), None);
        assert_eq!(size(0, None), None);
        assert_eq!(size(u64::MAX, Some(u64::MAX)), None);
    }
}
