//! Reads what is in a tree. Only regular files are ever opened: a pipe would block, a device act.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};

use kiln_graph::ImagePath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::held::HeldPath;
use crate::{TreePath, TreeRoot};

impl TreeRoot {
    /// What lies at a path, a link itself.
    ///
    /// # Errors
    /// When there is nothing, or a link on the way.
    pub fn stat(&self, path: &ImagePath) -> io::Result<Stat> {
        Ok(fstat(self.hold(path)?)?)
    }

    /// As [`Self::stat`], but nothing where there is nothing.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn find(&self, path: &ImagePath) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Whether there is a directory at a path.
    #[must_use]
    pub fn is_directory(&self, path: &ImagePath) -> bool {
        let stat = self.stat(path);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// When it can't be, or is something else.
    pub fn open_file(&self, path: &ImagePath) -> io::Result<File> {
        open_held(&self.hold(path)?)
    }

    /// The content of a regular file, when it is no longer than `limit` bytes.
    ///
    /// # Errors
    /// When it can't be read, is something else, or longer.
    pub fn read(&self, path: &ImagePath, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_file(path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn read_link(&self, path: &ImagePath) -> io::Result<Vec<u8>> {
        let held = self.hold(path)?;
        Ok(rustix::fs::readlinkat(held, "", Vec::new())?.into_bytes())
    }

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// When it can't be read, or is something else.
    pub fn names(&self, path: &ImagePath) -> io::Result<Vec<Vec<u8>>> {
        names_in(&self.open_directory(path)?)
    }

    pub(crate) fn open_directory(&self, path: &ImagePath) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }
}

impl TreePath {
    /// Opens a regular file.
    ///
    /// # Errors
    /// When it can't be, or is something else.
    pub fn open_file(&self) -> io::Result<File> {
        self.root.open_file(&self.path)
    }
}

/// Opens a held regular file: nothing else is, whatever took its place.
pub(crate) fn open_held(held: &OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(fstat(held)?.st_mode);
    match kind {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(Errno::LOOP.into()),
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        _ => {
            let text = "it is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    let opened = HeldPath::of(held).open(OFlags::RDONLY | OFlags::CLOEXEC)?;
    Ok(opened.into())
}

/// Holds one name of a directory, a link itself.
pub(crate) fn hold_in(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// The names in an open directory, in no order.
pub(crate) fn names_in(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

pub(crate) fn stat_in(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Stat> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let root = TreeRoot::at(directory.path());
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        symlink("file", at("link")).unwrap();
        root.create_node(&"/pipe".into(), &kiln_graph::Node::Fifo)
            .unwrap();
        _ = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "pipe", "socket", "none", ""] {
            assert!(root.open_file(&name.into()).is_err(), "{name}");
        }
        assert_eq!(root.read(&"file".into(), 5).unwrap(), b"12345");
        assert!(root.read(&"file".into(), 4).is_err());
        assert_eq!(root.read_link(&"link".into()).unwrap(), b"file");
        assert!(root.read_link(&"file".into()).is_err());
        assert!(root.find(&"none".into()).unwrap().is_none());
        assert!(root.find(&"link/x".into()).unwrap().is_none());
    }
}
