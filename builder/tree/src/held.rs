//! Names what a descriptor holds, for calls that refuse descriptors that only hold something
//! (`O_PATH`): `self/fd/N` of a procfs. The kernel jumps to the held object; no directory is walked.
//!
//! Where `/proc` isn't mounted, as in a root with nothing but the binary, a procfs that is mounted
//! nowhere serves as well (`fsopen(2)`, `fsmount(2)`; Linux 5.2, needs CAP_SYS_ADMIN).

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Access, Timestamps, XattrFlags};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Good only as long as the descriptor is open.
pub(crate) struct HeldPath<'fd> {
    held: BorrowedFd<'fd>,
    procfs: Option<&'static OwnedFd>,
}

impl<'fd> HeldPath<'fd> {
    pub(crate) fn of(held: &'fd impl AsFd) -> Self {
        let (held, procfs) = (held.as_fd(), detached_procfs());
        Self { held, procfs }
    }

    fn directory(&self) -> BorrowedFd<'static> {
        self.procfs.map_or(CWD, AsFd::as_fd)
    }

    /// Relative to the detached procfs when there is one.
    fn path(&self) -> String {
        let number = self.held.as_raw_fd();
        match self.procfs {
            Some(_) => format!("self/fd/{number}"),
            None => format!("/proc/self/fd/{number}"),
        }
    }

    pub(crate) fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        openat(self.directory(), self.path(), flags, Mode::empty())
    }

    pub(crate) fn set_mode(&self, mode: Mode) -> Result<()> {
        rustix::fs::chmodat(self.directory(), self.path(), mode, AtFlags::empty())
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<()> {
        rustix::fs::utimensat(self.directory(), self.path(), times, AtFlags::empty())
    }

    pub(crate) fn list_xattrs(&self, names: &mut [u8]) -> Result<usize> {
        match self.procfs {
            Some(_) => rustix::fs::flistxattr(self.open_for_xattrs()?, names),
            None => rustix::fs::listxattr(self.path(), names),
        }
    }

    pub(crate) fn xattr(&self, name: &[u8], value: &mut [u8]) -> Result<usize> {
        match self.procfs {
            Some(_) => rustix::fs::fgetxattr(self.open_for_xattrs()?, name, value),
            None => rustix::fs::getxattr(self.path(), name, value),
        }
    }

    pub(crate) fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let flags = XattrFlags::empty();
        match self.procfs {
            Some(_) => rustix::fs::fsetxattr(self.open_for_xattrs()?, name, value, flags),
            None => rustix::fs::setxattr(self.path(), name, value, flags),
        }
    }

    /// Calls for attributes take no directory: the file is opened for them. What is neither a file
    /// nor a directory isn't, and has no attributes of users.
    fn open_for_xattrs(&self) -> Result<OwnedFd> {
        match FileType::from_raw_mode(fstat(self.held)?.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                self.open(OFlags::RDONLY | OFlags::CLOEXEC)
            }
            _ => Err(Errno::NOTSUP),
        }
    }
}

/// A procfs that is mounted nowhere; `None` where `/proc` is there, or none can be had.
fn detached_procfs() -> Option<&'static OwnedFd> {
    static PROCFS: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let made = PROCFS.get_or_init(|| {
        let there = accessat(CWD, "/proc/self/fd", Access::EXISTS, AtFlags::empty()).is_ok();
        (!there).then(|| mount_detached().ok()).flatten()
    });
    made.as_ref()
}

fn mount_detached() -> Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Timespec, open};

    /// Whether a procfs is mounted or not, the same is read and written.
    #[test]
    fn a_procfs_that_is_mounted_nowhere_serves() {
        let Ok(procfs) = mount_detached() else { return };
        let procfs: &'static OwnedFd = Box::leak(Box::new(procfs));
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let held = open(file.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for procfs in [Some(procfs), None] {
            let path = HeldPath {
                held: held.as_fd(),
                procfs,
            };
            let opened = path.open(OFlags::RDONLY | OFlags::CLOEXEC).unwrap();
            let text = std::io::read_to_string(std::fs::File::from(opened)).unwrap();
            assert_eq!(text, "text");
            let mode = if procfs.is_some() { 0o640 } else { 0o600 };
            path.set_mode(Mode::from_raw_mode(mode)).unwrap();
            let time = Timespec {
                tv_sec: i64::from(mode),
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            path.set_times(&times).unwrap();
            let stat = fstat(&held).unwrap();
            assert_eq!(
                (stat.st_mode & 0o777, stat.st_mtime),
                (mode, i64::from(mode))
            );
            let value = mode.to_string();
            path.set_xattr(b"user.kiln", value.as_bytes()).unwrap();
            let mut read = [0; 16];
            let length = path.xattr(b"user.kiln", &mut read).unwrap();
            assert_eq!(&read[..length], value.as_bytes());
            assert!(path.list_xattrs(&mut [0; 256]).unwrap() > 0);
        }
    }
}
