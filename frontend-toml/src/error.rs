//! What is wrong with a file, and where.

use std::ops::Range;

use kiln_graph::{Fault, Location};

/// Something wrong in a build file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(location.as_ref()))]
pub struct TomlError {
    /// In plain words, with what to do.
    pub message: String,
    /// Where; unknown for what the command line says.
    pub location: Option<Location>,
    /// The line at `location`, which may be one of an included file.
    pub line: Option<String>,
}

fn place(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |location| format!("{location}: "))
}

impl TomlError {
    /// A fault that stands at no place in a file.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: None,
            line: None,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::User
    }
}

/// A message about some bytes, before it is known which file and line they are.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) span: Option<Range<usize>>,
    /// Nothing is wrong, but the output of a step must be known first.
    pub(crate) waits: bool,
}

impl Wrong {
    /// The output of a step must be known first.
    pub(crate) fn waits() -> Self {
        Self {
            message: "the output of a step isn't known; this is a bug in kiln".to_owned(),
            span: None,
            waits: true,
        }
    }

    pub(crate) fn at(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            // What the command line names is at no place.
            span: Some(span.clone()).filter(|span| *span != NOWHERE),
            waits: false,
        }
    }

    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self::at(&NOWHERE, message)
    }
}

/// The span of what isn't written in a file: no text is without at least its quotes.
pub(crate) const NOWHERE: Range<usize> = 0..0;
