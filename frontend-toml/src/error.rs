//! What is wrong with a file, and where.

use std::fmt;
use std::ops::Range;

use kiln_graph::{Fault, Location};

/// Something wrong in a build file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TomlError {
    /// In plain words, with what to do.
    pub message: String,
    /// Where; unknown for faults of the whole file.
    pub location: Option<Location>,
}

impl TomlError {
    /// A fault of the whole file.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: None,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::User
    }
}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TomlError {}

/// A message about some bytes of the file, before it is known which file.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
}

impl Wrong {
    pub(crate) fn at(text: &crate::text::Text, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: text.span.clone(),
        }
    }

    pub(crate) fn in_file(self, file: &str, text: &str) -> TomlError {
        TomlError {
            location: Some(locate(file, text, &self.span)),
            message: self.message,
        }
    }
}

/// The lines and the column of some bytes.
pub(crate) fn locate(file: &str, text: &str, span: &Range<usize>) -> Location {
    let before = text.get(..span.start).unwrap_or(text);
    let inside = text.get(span.clone()).unwrap_or_default();
    let count = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Location {
        file: file.into(),
        line: number(count(before)),
        column: number(before[line_start..].chars().count()),
        end_line: number(count(before) + count(inside)),
    }
}
