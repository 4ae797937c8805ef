//! Brings a file to another place without copying bytes where the file system allows it.

use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::SeekFrom;
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

/// Copies `size` bytes of `source` into the empty `target`, in the kernel where it can be. Holes
/// stay holes.
///
/// # Errors
/// What the system says.
pub fn copy_content(source: &File, target: &File, size: u64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, size)? {
        copy_range(source, target, start, end)?;
        at = end;
    }
    if at < size {
        target.set_len(size)?;
    }
    Ok(())
}

/// The next stretch that is no hole.
fn next_data(source: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(source, SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some((start, end)))
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::NOTSUP | Errno::PERM) => {
                return copy_bytes(source, target, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_bytes(mut source: &File, mut target: &File, start: u64, end: u64) -> io::Result<()> {
    _ = source.seek(io::SeekFrom::Start(start))?;
    _ = target.seek(io::SeekFrom::Start(start))?;
    io::copy(&mut source.take(end - start), &mut target).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn holes_stay_holes_and_all_bytes_come() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let source = File::create(at("from")).unwrap();
        source.set_len(40 << 20).unwrap();
        for (place, bytes) in [(0, "first"), (20 << 20, "middle"), ((40 << 20) - 4, "last")] {
            source.write_all_at(bytes.as_bytes(), place).unwrap();
        }
        share(&at("from"), &at("to"), Sharing::ContentOnly).unwrap();
        assert!(std::fs::read(at("from")).unwrap() == std::fs::read(at("to")).unwrap());
        assert!(std::fs::metadata(at("to")).unwrap().blocks() * 512 < 1 << 20);
        let bytes = File::create(at("bytes")).unwrap();
        let source = File::open(at("from")).unwrap();
        copy_bytes(&source, &bytes, 0, 40 << 20).unwrap();
        assert!(std::fs::read(at("from")).unwrap() == std::fs::read(at("bytes")).unwrap());
    }
}
