//! Mounts a tree of the store on a directory of the machine, for other programs: an overlay of one
//! read-only directory, with one for the changes or none.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::SandboxError;
use crate::identity::is_in_user_namespace;
use crate::init::{attach, open_overlay};
use crate::mount_attributes::restrict;

/// A tree to be mounted.
#[derive(Clone, Copy, Debug)]
pub struct RootMount<'a> {
    /// The directory with its files, which is never written to.
    pub lower: &'a Path,
    /// An empty directory, for overlayfs wants two where there is nothing to take changes.
    pub empty: &'a Path,
    /// The directory for changes and an empty one beside it; without them the mount is read-only.
    pub changes: Option<(&'a Path, &'a Path)>,
    /// Whether programs in it may change users.
    pub allow_setuid: bool,
}

impl RootMount<'_> {
    /// Mounts it on a directory. Device nodes in it are only names.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&self, directory: &Path) -> Result<(), SandboxError> {
        let failed = |what: &str, error: io::Error| SandboxError::Setup {
            what: format!("{what} {}", directory.display()),
            reason: error.to_string(),
            errno: error.raw_os_error().unwrap_or(0),
        };
        let lowers = match self.changes {
            Some(_) => vec![self.lower],
            None => vec![self.empty, self.lower],
        };
        let overlay = open_overlay(&lowers, self.changes, is_in_user_namespace());
        let overlay = overlay.map_err(|error| failed("mount an overlay on", error.into()))?;
        restrict(&overlay, self.attributes()).map_err(|error| failed("mount on", error))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(directory, flags, Mode::empty());
        target
            .and_then(|target| attach(&overlay, target))
            .map_err(|error| failed("mount on", error.into()))
    }

    fn attributes(&self) -> u64 {
        let read_only = match self.changes {
            Some(_) => 0,
            None => libc::MOUNT_ATTR_RDONLY,
        };
        let no_setuid = match self.allow_setuid {
            true => 0,
            false => libc::MOUNT_ATTR_NOSUID,
        };
        libc::MOUNT_ATTR_NODEV | read_only | no_setuid
    }
}

/// Unmounts what is mounted on a directory.
///
/// # Errors
/// What the system says: `EBUSY` while a program uses it, `EINVAL` when nothing is mounted there.
pub fn unmount(directory: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW)?)
}

/// The number of the mount namespace that this process is in.
///
/// # Errors
/// What the system says.
pub fn mount_namespace() -> io::Result<u64> {
    let namespace = rustix::fs::statat(CWD, "/proc/self/ns/mnt", rustix::fs::AtFlags::empty())?;
    Ok(namespace.st_ino)
}
