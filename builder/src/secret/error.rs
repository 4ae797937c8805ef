//! What can be wrong with how a secret or an agent is given. No variant holds a value.

use std::path::PathBuf;

use kiln_graph::Fault;

use super::AgentError;

/// A secret or SSH agent that isn't given as it has to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadSecret {
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
    /// An agent can't be had.
    #[error("the SSH agent {agent}: {source}")]
    Agent {
        /// What was given.
        agent: String,
        /// Why.
        source: AgentError,
    },
}

impl BadSecret {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Agent { source, .. } => source.fault(),
            _ => Fault::User,
        }
    }
}
