//! Where a tree lies: the descriptor of its root directory.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kiln_graph::ImagePath;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::beneath::open_beneath;

/// The root directory of a tree or volume. It is opened at its first use, and all clones share the
/// descriptor. Cheap to clone.
#[derive(Clone)]
pub struct TreeRoot(Arc<Inner>);

struct Inner {
    path: PathBuf,
    descriptor: OnceLock<OwnedFd>,
}

impl TreeRoot {
    /// The tree at a path of the host. The path itself is walked by the host: it must be one that
    /// the user gave, or a name of the store's own, which no step can reach.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            path: path.into(),
            descriptor: OnceLock::new(),
        }))
    }

    /// Where it is on the host: for messages, and to mount or rename it as a whole.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The root directory's descriptor, good for being a starting point only (`O_PATH`).
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(open) = self.0.descriptor.get() {
            return Ok(open.as_fd());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(CWD, &self.0.path, flags, Mode::empty())?;
        Ok(self.0.descriptor.get_or_init(|| open).as_fd())
    }

    /// A path of this tree.
    #[must_use]
    pub fn join(&self, path: ImagePath) -> TreePath {
        TreePath {
            root: self.clone(),
            path,
        }
    }

    /// Holds what lies at a path: a link itself, never what it points to (`O_PATH`).
    ///
    /// # Errors
    /// When there is nothing, or a link on the way.
    pub fn hold(&self, path: &ImagePath) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH, Mode::empty())
    }

    /// Whether both are one, with one descriptor.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn open(&self, path: &ImagePath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_beneath(self.descriptor()?, path, flags, mode)
    }

    /// The directory that a path's last name is in, and that name.
    pub(crate) fn parent<'p>(&self, path: &'p ImagePath) -> io::Result<(OwnedFd, &'p [u8])> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let text = "the root of a tree has no name in it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open(&parent, flags, Mode::empty())?, name))
    }
}

impl fmt::Debug for TreeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TreeRoot").field(&self.0.path).finish()
    }
}

/// A path of a tree on disk.
#[derive(Clone, Debug)]
pub struct TreePath {
    /// The tree.
    pub root: TreeRoot,
    /// Where in it.
    pub path: ImagePath,
}

impl TreePath {
    /// As the host would name it: for messages only.
    #[must_use]
    pub fn display(&self) -> PathBuf {
        self.path.under(self.root.path())
    }
}
