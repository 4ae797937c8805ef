//! What can go wrong with a tree on disk.

use std::io;
use std::path::{Path, PathBuf};

use kiln_graph::ImagePath;

/// A tree can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, as the host would name it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was written while it was read.
    #[error("{path} changed while kiln read it: build again when nothing writes to it")]
    Changed {
        /// The file, inside the tree.
        path: ImagePath,
    },
}

impl From<TreeError> for io::Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Io { ref source, .. } => Self::new(source.kind(), error.to_string()),
            TreeError::Changed { .. } => Self::other(error.to_string()),
        }
    }
}

/// Adds the action and the path to a system error.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, root: &Path, path: &ImagePath) -> Result<T, TreeError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, root: &Path, path: &ImagePath) -> Result<T, TreeError> {
        self.map_err(|source| TreeError::Io {
            action,
            path: path.under(root),
            source: source.into(),
        })
    }
}
