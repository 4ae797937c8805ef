//! Brings a file to another place without copying bytes where the file system allows it.

use std::fs::{File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::io::Errno;

/// Whether two names may share one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Both names are in the store, where nothing writes through a link, and mode, owner, times
    /// and xattrs are to be the same.
    HardLink,
    /// The other name belongs to somebody who may write to it.
    ContentOnly,
}

/// Makes `to` have `from`'s content: by hard link where allowed, else as a reflink, else as a
/// copy. A copy has `from`'s mode and times; its owner is the caller.
///
/// # Errors
/// What the system says; `to` must not exist.
pub fn share(from: &Path, to: &Path, sharing: Sharing) -> io::Result<()> {
    if sharing == Sharing::HardLink {
        match std::fs::hard_link(from, to) {
            Ok(()) => return Ok(()),
            Err(error) if cannot_link(&error) => {}
            Err(error) => return Err(error),
        }
    }
    copy(from, to)
}

fn cannot_link(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(
        code,
        Some(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOTSUP)
    )
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let metadata = source.metadata()?;
    let target = File::options().write(true).create_new(true).open(to)?;
    copy_content(&source, &target, metadata.len())?;
    target.set_permissions(Permissions::from_mode(
        metadata.permissions().mode() & 0o7777,
    ))?;
    target.set_times(FileTimes::new().set_modified(metadata.modified()?))
}

/// Copies all of `source` into the empty `target`, in the kernel where it can be.
///
/// # Errors
/// What the system says.
pub fn copy_content(source: &File, target: &File, size: u64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::NOTSUP | Errno::PERM) => {
                return io::copy(&mut &*source, &mut &*target).map(drop);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
