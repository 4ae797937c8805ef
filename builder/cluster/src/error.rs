//! What goes wrong with a cluster.

use std::path::PathBuf;

use kiln_graph::Fault;
use tonic::Code;

use crate::handshake::Handshake;

/// Why a server did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It isn't spoken to as it wants to be.
    #[error("{0}")]
    Handshake(Handshake),
    /// It ends an encrypted connection at the first call, which is how some refuse a certificate.
    #[error("{0}: does it want this client's certificate, or another one (cert=FILE,key=FILE)?")]
    Closed(String),
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
    /// An action ended without a result.
    #[error("the action failed there ({code:?}: {message})")]
    Action {
        /// The status.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// It executes nothing.
    #[error("it has storage, but executes nothing for this instance")]
    NoExecution,
    /// No worker took an action.
    #[error(
        "no worker took the step within {0} s: either all are busy, or none has the platform properties that were asked for"
    )]
    Queue(u64),
    /// The stream of an action's progress ended before the action.
    #[error("the connection ended before the action did")]
    BrokenStream,
    /// A worker ended without a report of what it did.
    #[error("its worker{worker} gave no result{reason}")]
    NoReport {
        /// The worker's name with a space before it, if it is known.
        worker: String,
        /// What is known of the reason, with what stands before it.
        reason: String,
    },
    /// A worker can't run steps.
    #[error("its worker{worker} can't run steps: {reason}")]
    Worker {
        /// The worker's name with a space before it, if it is known.
        worker: String,
        /// Why, in words.
        reason: String,
    },
    /// A worker can't run one step.
    #[error("its worker{worker} can't run the step: {reason}")]
    Step {
        /// The worker's name with a space before it, if it is known.
        worker: String,
        /// Why, in words.
        reason: String,
    },
    /// What a worker gave back is wrong.
    #[error("its worker{worker} gave a wrong result: {reason}")]
    Result {
        /// The worker's name with a space before it, if it is known.
        worker: String,
        /// What is wrong.
        reason: String,
    },
    /// The build was stopped.
    #[error("cancelled")]
    Cancelled,
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
            | Self::Handshake(_)
            | Self::Refused(_)
            | Self::File { .. }
            | Self::CredentialHelper { .. } => Fault::User,
            _ => Fault::Environment,
        }
    }

    /// The status of a call, or of an action.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } | Self::Action { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// How much it counts against the cluster, of `most`: nothing what is about one step.
    pub(crate) fn weight(&self, most: u32) -> u32 {
        match self {
            Self::Step { .. } => 0,
            _ if self.is_lasting() => most,
            _ => 1,
        }
    }

    /// Whether asking again makes no sense: the next step would be told the same.
    fn is_lasting(&self) -> bool {
        !matches!(
            self,
            Self::Action { .. } | Self::NoReport { .. } | Self::Worker { .. }
        )
    }

    /// Whether it is what became of an action, not of the call that asks for it.
    pub(crate) fn is_of_the_action(&self) -> bool {
        matches!(self, Self::Action { .. })
    }

    /// Whether a stream broke whose action may still run.
    pub(crate) fn is_broken_stream(&self) -> bool {
        matches!(self, Self::BrokenStream)
            || matches!(self, Self::Call { code, message }
                if matches!(code, Code::Cancelled | Code::Internal) && is_of_transport(message))
    }

    /// Whether inputs of an action may be gone that were there a moment ago. Servers have several
    /// ways to say so.
    pub(crate) fn may_be_missing_input(&self) -> bool {
        matches!(
            self.code(),
            Some(Code::FailedPrecondition | Code::NotFound | Code::Internal)
        )
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Call { code, .. } | Self::Action { code, .. } => matches!(
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
        let cause = std::error::Error::source(&status);
        if let Some(handshake) = cause.and_then(Handshake::of) {
            return Self::Handshake(handshake);
        }
        let message = match cause {
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
        match Handshake::of(&error) {
            Some(handshake) => Self::Handshake(handshake),
            None => Self::Connect(innermost(&error)),
        }
    }
}

/// Whether a status was made here, for a connection that broke.
fn is_of_transport(message: &str) -> bool {
    [
        "h2 protocol error",
        "stream closed",
        "connection",
        "RST_STREAM",
        "broken pipe",
    ]
    .iter()
    .any(|text| message.contains(text))
}

/// The cause of causes: the others say "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
