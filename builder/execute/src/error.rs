//! Why a build failed, and who can mend it.

use kiln_cache::StoreError;
use kiln_graph::{BlobDigest, Fault, ImagePath, Location, Manifest, StepId, TreeId};
use kiln_image::ImageError;
use kiln_sandbox::SandboxError;
use kiln_share::RemoteError;
use kiln_solve::{NotAllowed, StepError};

use crate::SecretError;
use crate::files::FilesError;

/// A step that ran and failed.
#[derive(Clone, Debug)]
pub struct StepFailure {
    /// The step's name.
    pub name: String,
    /// The command, as the shell or the kernel got it.
    pub command: String,
    /// How it ended, in words.
    pub how: String,
    /// Where the build file asks for it.
    pub location: Option<Location>,
    /// The last lines it wrote.
    pub last_output: String,
    /// What it had changed on disk.
    pub changed: ChangedFiles,
    /// What it left behind, where it is kept.
    pub left: Option<LeftBehind>,
}

/// What a failed step left behind in this build: the same definition may fail in another one with other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The step, of the graph that was solved.
    pub step: StepId,
    /// Its changes.
    pub tree: TreeId,
}

/// Files that a failed step had changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedFiles {
    /// Some of them.
    pub some: Vec<ImagePath>,
    /// How many they are.
    pub all: usize,
}

impl ChangedFiles {
    /// How many are named.
    const NAMED: usize = 5;

    pub(crate) fn of(manifest: &Manifest) -> Self {
        let files = manifest
            .entries()
            .iter()
            .filter(|entry| !entry.is_directory());
        let some = files.clone().take(Self::NAMED);
        Self {
            some: some.map(|entry| entry.path.clone()).collect(),
            all: files.count(),
        }
    }
}

/// A download that isn't what was demanded.
#[derive(Clone, Debug)]
pub struct WrongChecksum {
    /// The file, without credentials.
    pub address: String,
    /// What came.
    pub actual: BlobDigest,
    /// What the build file or the lock demands.
    pub expected: BlobDigest,
    /// Where the build file asks for it.
    pub location: Option<Location>,
}

/// Something that the user gives to steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// The directory of a context, by its name.
    Context(String),
    /// A secret, by its id.
    Secret(String),
    /// An SSH agent, by its id.
    Agent(String),
}

impl std::fmt::Display for Needed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Context(name) => write!(f, "a directory for the context '{name}'"),
            Self::Secret(id) => write!(f, "the secret '{id}'"),
            Self::Agent(id) => write!(f, "the SSH agent '{id}'"),
        }
    }
}

/// A failed build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A step ran and failed.
    #[error("process \"{}\" did not complete successfully: {}", .0.command, .0.how)]
    Step(Box<StepFailure>),
    /// A step could not be run.
    #[error("{}: {source}", .name)]
    Sandbox {
        /// The step's name.
        name: String,
        /// Where the build file asks for it.
        location: Option<Location>,
        /// Why.
        source: SandboxError,
    },
    /// Files can't be brought where they are wanted.
    #[error("{source}")]
    Files {
        /// Where the build file asks for it.
        location: Option<Location>,
        /// Why.
        source: FilesError,
    },
    /// Something that the step needs was not given.
    #[error("the step needs {what}")]
    NotGiven {
        /// What.
        what: Needed,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// A secret that was given can't be had.
    #[error("the secret '{id}' can't be read: {source}")]
    Secret {
        /// Its id.
        id: String,
        /// Where the build file asks for it.
        location: Option<Location>,
        /// Why.
        source: SecretError,
    },
    /// A source can't be had.
    #[error("{address}: {reason}")]
    Source {
        /// The source, without credentials.
        address: String,
        /// Why.
        reason: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// A download isn't what was demanded.
    #[error("{}: digest mismatch: {} came, {} was demanded", .0.address, .0.actual, .0.expected)]
    Checksum(Box<WrongChecksum>),
    /// A step asks for what can't be: a user that the image doesn't have, a mount of nothing.
    #[error("{message}")]
    Impossible {
        /// What, and what to do.
        message: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// Something is no longer in the store.
    #[error("{what} is gone from the store: something else removes files in it; build again")]
    Gone {
        /// What.
        what: String,
    },
    /// What was asked for of stored images and volumes can't be done.
    #[error("{0}")]
    Refused(String),
    /// The build file asks for more than the user allows.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// A step left a secret behind.
    #[error("the secret '{secret}' was found, {encoding}, in {place}{}", by(name))]
    Leak {
        /// The secret's id.
        secret: String,
        /// How it is written there.
        encoding: &'static str,
        /// Where.
        place: String,
        /// The step's name; empty for what the build file itself says.
        name: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// What a step wrote can't be searched for secrets.
    #[error("{place} can't be searched for secrets: {reason}; nothing of this step is kept")]
    Search {
        /// What can't be searched.
        place: String,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// An image can't be had, read or written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An output can't be written.
    #[error("cannot write {what}: {source}")]
    Output {
        /// What.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several steps failed, in a build that goes on after failures.
    #[error("{} steps failed: {}", .0.len(), list(.0))]
    Several(Vec<EngineError>),
    /// A remote cache is damaged or can't be reached.
    #[error("the cache {remote} can't be used: {source}")]
    RemoteCache {
        /// Which.
        remote: String,
        /// Why.
        source: RemoteError,
    },
    /// An executor or a source that an embedder brought failed.
    #[error("{name}: {source}")]
    Custom {
        /// The step's name.
        name: String,
        /// Where the build file asks for it.
        location: Option<Location>,
        /// Who can mend it.
        fault: Fault,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The build was stopped.
    #[error("the build was cancelled")]
    Cancelled,
    /// Something that can't be, unless kiln is wrong.
    #[error("{0}")]
    Defect(String),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => Self::Cancelled,
            other => Self::Store(other),
        }
    }
}

impl EngineError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Step(_)
            | Self::NotGiven { .. }
            | Self::Checksum(_)
            | Self::Impossible { .. }
            | Self::Refused(_)
            | Self::NotAllowed(_)
            | Self::Leak { .. }
            | Self::Cancelled => Fault::User,
            Self::Sandbox { .. }
            | Self::Output { .. }
            | Self::Search { .. }
            | Self::Source { .. }
            | Self::Gone { .. } => Fault::Environment,
            Self::RemoteCache { source, .. } => source.fault(),
            Self::Secret { source, .. } => source.fault(),
            Self::Files { source, .. } => source.fault(),
            Self::Store(source) => source.fault(),
            Self::Image(source) => source.fault(),
            Self::Several(errors) => errors.first().map_or(Fault::User, Self::fault),
            Self::Custom { fault, .. } => *fault,
            Self::Defect(_) => Fault::Kiln,
        }
    }

    /// Whether something stored may be damaged: then [`kiln_cache::Store::fsck`] removes it, and
    /// building again makes it again.
    #[must_use]
    pub fn may_be_damage(&self) -> bool {
        match self {
            Self::Store(StoreError::Damaged(_) | StoreError::WrongDigest { .. }) => true,
            Self::Output { source, .. } | Self::Image(ImageError::Io { source, .. }) => {
                use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
                matches!(
                    source.kind(),
                    InvalidData | InvalidInput | Other | UnexpectedEof
                )
            }
            Self::Several(errors) => errors.iter().any(Self::may_be_damage),
            _ => false,
        }
    }

    /// Where the build file asks for what failed.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Step(failure) => failure.location.as_ref(),
            Self::Checksum(wrong) => wrong.location.as_ref(),
            Self::Sandbox { location, .. }
            | Self::Files { location, .. }
            | Self::Leak { location, .. }
            | Self::Custom { location, .. }
            | Self::NotGiven { location, .. }
            | Self::Secret { location, .. }
            | Self::Source { location, .. }
            | Self::Impossible { location, .. } => location.as_ref(),
            Self::NotAllowed(refused) => refused.location.as_ref(),
            _ => None,
        }
    }
}

impl StepError for EngineError {
    fn cancelled() -> Self {
        Self::Cancelled
    }

    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Files are needed of results that a shared cache knows by name only.
    fn begins_again(&self) -> bool {
        match self {
            Self::RemoteCache { source, .. } => matches!(source, RemoteError::NameOnly),
            Self::Several(errors) => errors.iter().any(Self::begins_again),
            _ => false,
        }
    }

    fn several(errors: Vec<Self>) -> Self {
        Self::Several(errors)
    }
}

fn list(errors: &[EngineError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// What a secret that was found means for the step, or for the image where no step wrote it.
fn by(name: &str) -> String {
    if name.is_empty() {
        let text = ": no image is made of this; leave it out of what the build file says of the image, and of its arguments";
        text.to_owned()
    } else {
        format!(
            " after {name}: nothing of this step is kept; don't write it there, or remove it in the same step"
        )
    }
}
