//! Why files can't be brought where they are wanted.

use std::io;

use kiln_graph::{Fault, ImagePath};

/// Why files can't be brought where they are wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A source isn't there.
    #[error("\"{0}\": not found; check its spelling, the build context and .dockerignore")]
    NotFound(String),
    /// Links lead to each other, or there are too many.
    #[error("\"{path}\": too many levels of symbolic links")]
    LinkLoop {
        /// The source.
        path: ImagePath,
    },
    /// A pattern can't be read.
    #[error("{0}")]
    Pattern(#[from] kiln_graph::pattern::BadPattern),
    /// A directory can't replace a file.
    #[error("cannot copy to {path}: it is a file, and the source is a directory")]
    DirectoryOverFile {
        /// The destination.
        path: ImagePath,
    },
    /// A file can't replace a directory.
    #[error("cannot replace {path}: it is a directory, and the source is a file")]
    FileOverDirectory {
        /// The destination.
        path: ImagePath,
    },
    /// A path leads through a file.
    #[error("cannot make {path}: {file} is not a directory")]
    NotADirectory {
        /// The path wanted.
        path: ImagePath,
        /// The file in the way.
        file: ImagePath,
    },
    /// An owner's name isn't known.
    #[error(transparent)]
    Owner(#[from] kiln_sandbox::NoSuchUser),
    /// An archive can't be unpacked.
    #[error("cannot unpack {name}: {source}")]
    Archive {
        /// The archive.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A difference stands beside other actions.
    #[error("a difference of trees is its operation's only action")]
    NotAlone,
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, inside the image.
        path: ImagePath,
        /// What the system said.
        source: io::Error,
    },
}

impl FilesError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } => Fault::Environment,
            _ => Fault::User,
        }
    }
}
