//! What goes wrong with a cluster.

use std::path::PathBuf;

use kiln_graph::Fault;
use tonic::Code;

/// Why a server did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It answers nothing.
    #[error("it does not answer (waited {0} s)")]
    Silent(u64),
    /// It has no such instance.
    #[error("it has no instance named '{0}'")]
    Instance(String),
    /// Credentials are missing or not enough.
    #[error("access is refused ({0}); check the credentials and their rights")]
    Refused(String),
    /// It knows no SHA-256, by which kiln names blobs.
    #[error("it does not take SHA-256 digests")]
    DigestFunction,
    /// It has no cache, or takes no results from clients.
    #[error("it takes no cache entries from clients")]
    ReadOnly,
    /// A blob is larger than it takes.
    #[error("a blob has {size} bytes, and it takes {max} at most")]
    TooLarge {
        /// In bytes.
        size: u64,
        /// In bytes.
        max: u64,
    },
    /// A blob is not there, or not as its digest says.
    #[error("the blob {hash} is {problem}")]
    Blob {
        /// Its SHA-256.
        hash: String,
        /// Missing, or of another size.
        problem: &'static str,
    },
    /// An answer that the API does not allow.
    #[error("it answers against the API: {0}")]
    Protocol(&'static str),
    /// A call failed otherwise.
    #[error("{code:?}: {message}")]
    Call {
        /// The status.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// A file of the user's or of the store can't be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The credential helper gives none.
    #[error("the credential helper {path}: {reason}")]
    CredentialHelper {
        /// The program.
        path: PathBuf,
        /// In its words, or ours.
        reason: String,
    },
    /// The network's runtime doesn't start.
    #[error("cannot start the network's threads: {0}")]
    Runtime(String),
}

impl ClusterError {
    /// Who can do something about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Instance(_)
            | Self::Refused(_)
            | Self::File { .. }
            | Self::CredentialHelper { .. } => Fault::User,
            _ => Fault::Environment,
        }
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Call { code, .. } => matches!(
                code,
                Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Unknown
            ),
            Self::Connect(_) => true,
            // To wait for an answer once was long enough.
            _ => false,
        }
    }
}

impl From<tonic::Status> for ClusterError {
    fn from(status: tonic::Status) -> Self {
        // What a server says has no cause here.
        let message = match std::error::Error::source(&status) {
            Some(cause) => innermost(cause),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Refused(message),
            code => Self::Call { code, message },
        }
    }
}

impl From<tonic::transport::Error> for ClusterError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Connect(innermost(&error))
    }
}

/// The cause of causes: the others say "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
