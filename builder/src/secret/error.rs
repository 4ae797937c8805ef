//! What can be wrong with a secret or an agent. No variant holds a value.

use std::io;
use std::path::PathBuf;

use kiln_graph::Fault;

/// A secret or SSH agent that can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// A field isn't `KEY=VALUE`.
    #[error("a secret's field is not KEY=VALUE: write id=NAME,src=FILE")]
    NotAField,
    /// There is no `id`.
    #[error("an id is missing from a secret: write id=NAME,src=FILE")]
    NoId,
    /// A key that doesn't exist.
    #[error("unknown key '{0}' of a secret: use id, src, env, type, in-key or sensitive")]
    UnknownKey(String),
    /// A key that is true or false has another value.
    #[error("{0} of a secret is true or false")]
    NotABool(String),
    /// The file isn't there.
    #[error("the secret {id}: there is no file {}", .file.display())]
    NoFile {
        /// The secret.
        id: String,
        /// The file.
        file: PathBuf,
    },
    /// The provider isn't in this build of kiln.
    #[error(
        "the secret {id}: this kiln was built without the provider {provider}: use a release, or build kiln with the feature '{provider}'"
    )]
    NotInThisBuild {
        /// The secret.
        id: String,
        /// The provider, and the feature that brings it.
        provider: &'static str,
    },
    /// A file of the user's can't be read.
    #[error("{}: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A provider can't give the value.
    #[error("{provider}: {reason}")]
    Provider {
        /// The provider's name.
        provider: String,
        /// In plain words, without the value.
        reason: String,
    },
    /// An agent can't be had.
    #[error("the SSH agent {agent}: {reason}")]
    Agent {
        /// What was given.
        agent: String,
        /// In plain words.
        reason: String,
    },
}

impl SecretError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreadable { .. } | Self::Provider { .. } | Self::Agent { .. } => {
                Fault::Environment
            }
            _ => Fault::User,
        }
    }
}
