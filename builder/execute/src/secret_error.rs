//! Why a secret can't be had.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use kiln_graph::Fault;

/// Why a secret that the user gave can't be had. No variant holds a value: texts are shown, and kept in
/// logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// A file that it is in, or is opened with, can't be read.
    #[error("{}: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program that gives secrets can't be run.
    #[error("{program} can't be run: {source}")]
    Program {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command that was to write it failed. It isn't repeated: it may hold a credential itself.
    #[error("the command failed: {0}")]
    CommandFailed(ExitStatus),
    /// Where it is isn't said in the provider's form.
    #[error("{address}: write {form}")]
    Address {
        /// What was said.
        address: String,
        /// The form.
        form: &'static str,
    },
    /// What the provider needs to know isn't set; the text says how to set it.
    #[error("{0}")]
    NotConfigured(String),
    /// The place has no such secret.
    #[error("{0}")]
    NotFound(String),
    /// The place refuses the user's credentials, or the user's keys don't open the value.
    #[error("{0}")]
    Denied(String),
    /// The place can't be reached, or doesn't answer as it should.
    #[error("{0}")]
    Unreachable(String),
    /// What is there can't be used as a secret.
    #[error("{0}")]
    Unsuitable(String),
    /// A provider of a program that embeds kiln failed.
    #[error("{source}")]
    Custom {
        /// Who can mend it.
        fault: Fault,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// One of several providers failed.
    #[error("{provider}: {source}")]
    Provider {
        /// The provider's name.
        provider: String,
        /// Why.
        source: Box<SecretError>,
    },
}

impl SecretError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Fault::User,
            Self::File { .. } | Self::Program { .. } | Self::Unreachable(_) => Fault::Environment,
            Self::CommandFailed(_)
            | Self::Address { .. }
            | Self::NotConfigured(_)
            | Self::NotFound(_)
            | Self::Denied(_)
            | Self::Unsuitable(_) => Fault::User,
            Self::Custom { fault, .. } => *fault,
            Self::Provider { source, .. } => source.fault(),
        }
    }

    /// The error of a file that can't be read.
    pub fn of_file(file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::File { file, source }
    }
}
