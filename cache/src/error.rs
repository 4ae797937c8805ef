//! What can go wrong in the store, and who can mend it.

use std::io;
use std::path::{Path, PathBuf};

use kiln_graph::{BlobDigest, Fault, ImagePath};
use kiln_tree::TreeError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by a newer kiln.
    #[error(
        "the store {} has format {found}, and this kiln knows formats up to {known}: use a newer \
         kiln, or another store by setting KILN_ROOT", path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this program knows.
        known: u32,
    },
    /// The directory is not a store.
    #[error(
        "{} is not a kiln store: {reason}; choose another directory by setting KILN_ROOT",
        path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Why it can't be one.
        reason: String,
    },
    /// The store, or a directory above it, is another user's.
    #[error(
        "the store {} can't be used: {} belongs to the user {owner}, who could exchange or execute \
         what lies in it; choose another directory by setting KILN_ROOT", store.display(), directory.display()
    )]
    OfAnother {
        /// The store.
        store: PathBuf,
        /// The directory that is another user's.
        directory: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The store's trees say what they hide in a way that this process can't see.
    #[error(
        "the store {} can't be used: it was made {}, and what its trees hide can't be seen {}; choose \
         another directory by setting KILN_ROOT", store.display(), place(*by_root), place(!*by_root)
    )]
    OtherMarks {
        /// The store.
        store: PathBuf,
        /// Whether the machine's root made it; else it was made in a user namespace.
        by_root: bool,
    },
    /// Content is not what its name says.
    #[error("content was expected to be {expected}, but is {actual}: it was damaged on the way")]
    WrongDigest {
        /// The digest asked for.
        expected: BlobDigest,
        /// The digest of what came.
        actual: BlobDigest,
    },
    /// A stored file doesn't pass its own checksum.
    #[error("the stored file {} is damaged", .0.display())]
    Damaged(PathBuf),
    /// A source file was written while it was read.
    #[error("{path} changed while kiln read it: build again when nothing writes to it")]
    Changed {
        /// The file, inside the directory scanned.
        path: ImagePath,
    },
    /// Waiting for a lock was given up.
    #[error("the build was cancelled")]
    Stopped,
    /// No home directory to keep a store in.
    #[error("no place for the store is known: set KILN_ROOT to a directory")]
    NoHome,
}

impl StoreError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::WrongDigest { .. } | Self::Damaged(_) => Fault::Environment,
            Self::Newer { .. }
            | Self::NotAStore { .. }
            | Self::OfAnother { .. }
            | Self::OtherMarks { .. }
            | Self::Changed { .. }
            | Self::Stopped
            | Self::NoHome => Fault::User,
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

impl From<TreeError> for StoreError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            TreeError::Changed { path } => Self::Changed { path },
            other => Self::Io {
                action: "read",
                path: PathBuf::new(),
                source: other.into(),
            },
        }
    }
}

fn place(by_root: bool) -> &'static str {
    match by_root {
        true => "by the machine's root",
        false => "by a process that may not mount",
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, for example with 'kiln prune', or move the store with KILN_ROOT"
        }
        io::ErrorKind::PermissionDenied => {
            "; check who owns it, or choose another store with KILN_ROOT"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; choose another store with KILN_ROOT",
        _ => "",
    }
}

/// Adds the action and the path to a system error.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
