//! Places in build files.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A stretch of a build file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The build file's name, as the user gave it.
    pub file: Arc<str>,
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line, the first one at the least.
    pub end_line: u32,
}

impl Location {
    /// Whether a line (from 1) is in this stretch.
    #[must_use]
    pub fn covers_line(&self, line: u32) -> bool {
        (self.line..=self.end_line).contains(&line)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
