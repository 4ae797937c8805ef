//! Why a shared cache can't be used, and who can mend it.

use kiln_graph::Fault;
use kiln_image::ImageError;

/// A failure with a shared cache, in plain words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The place can't be reached, or doesn't answer as it should.
    #[error("{0}")]
    Unreachable(String),
    /// The place doesn't let the user read or write.
    #[error("{0}")]
    Denied(String),
    /// What is there isn't what a cache holds: it is damaged, or nobody who is trusted has signed it.
    #[error("{0}")]
    Damaged(String),
    /// A file of this machine can't be read or written.
    #[error("{0}")]
    Local(String),
    /// The place can't do what was asked for.
    #[error("{0}")]
    Unsupported(String),
    /// Only the name of a result is there, and its files are needed.
    #[error("only the name of a result is there, and its files are needed")]
    NameOnly,
}

impl RemoteError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Denied(_) | Self::Unsupported(_) => Fault::User,
            Self::Unreachable(_) | Self::Damaged(_) | Self::Local(_) | Self::NameOnly => {
                Fault::Environment
            }
        }
    }

    /// The same failure, with the place's name before it.
    pub(crate) fn at(self, place: &str) -> Self {
        let named = |text: String| format!("{place}: {text}");
        match self {
            Self::Unreachable(text) => Self::Unreachable(named(text)),
            Self::Denied(text) => Self::Denied(named(text)),
            Self::Damaged(text) => Self::Damaged(named(text)),
            Self::Local(text) => Self::Local(named(text)),
            Self::Unsupported(text) => Self::Unsupported(named(text)),
            Self::NameOnly => Self::NameOnly,
        }
    }

    /// A failure of a shared directory.
    pub(crate) fn of_directory(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(error.to_string())
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// A failure with a file of this machine.
    pub(crate) fn local(error: &impl std::fmt::Display) -> Self {
        Self::Local(error.to_string())
    }
}

impl From<ImageError> for RemoteError {
    fn from(error: ImageError) -> Self {
        let text = error.to_string();
        match error {
            ImageError::Denied { .. } => Self::Denied(text),
            ImageError::WrongDigest { .. } | ImageError::Document { .. } => Self::Damaged(text),
            _ => Self::Unreachable(text),
        }
    }
}
