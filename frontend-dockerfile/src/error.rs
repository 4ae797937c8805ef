//! What is wrong with a build file, and where.

use std::fmt;
use std::sync::Arc;

use kiln_graph::{Fault, Location};

/// Something wrong in a build file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileError {
    /// In plain words, with the cause.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where; unknown for faults of the whole file.
    pub location: Option<Location>,
}

impl DockerfileError {
    /// A fault at a place.
    #[must_use]
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            location: Some(location),
        }
    }

    /// A fault of the whole file.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            location: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::User
    }
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for DockerfileError {}

/// The place of some lines of a file.
pub(crate) fn lines(file: &Arc<str>, first: u32, last: u32) -> Location {
    Location {
        file: file.clone(),
        line: first,
        column: 1,
        end_line: last,
    }
}
