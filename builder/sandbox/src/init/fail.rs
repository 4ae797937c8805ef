//! What the helper could not do.

use std::io;

use crate::process::Report;
pub(crate) use crate::system_error::check;

/// What failed before the command ran, or after it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A part of the preparation.
    Setup {
        what: String,
        reason: String,
        errno: i32,
    },
    /// Somebody has a file of the step open for writing, though its processes have ended.
    StillWritten,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Setup {
            what: what.into(),
            reason: reason.into(),
            errno: 0,
        }
    }

    /// A command that must not ask for other ids than there are did.
    pub(crate) fn other_ids() -> Self {
        Self::new(
            "run the step with one user id",
            "it gives files to other users, or runs as one",
        )
    }

    /// What was tried, and why it failed.
    pub(crate) fn into_words(self) -> (String, io::Error) {
        match self {
            Self::Setup { what, reason, .. } => (what, io::Error::other(reason)),
            Self::StillWritten => (
                "make what the step wrote read-only".to_owned(),
                io::Error::other("a file of it is still open for writing"),
            ),
        }
    }

    pub(crate) fn into_report(self) -> Report {
        match self {
            Self::Setup {
                what,
                reason,
                errno,
            } => Report::Failed {
                what,
                reason,
                errno,
            },
            Self::StillWritten => Report::StillWritten,
        }
    }
}

/// Adds to a system error what was tried.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T, Failure>;

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: &str) -> Result<T, Failure> {
        self.with_context(|| what.to_owned())
    }

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let errno = error.raw_os_error().unwrap_or(0);
            Failure::Setup {
                what: what(),
                reason: error.to_string(),
                errno,
            }
        })
    }
}
