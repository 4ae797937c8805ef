//! Patterns that select paths: `.dockerignore` lists (the semantics of moby's `patternmatcher`)
//! and COPY wildcards (Go's `filepath.Match`).

mod glob;
mod matcher;

pub use glob::{has_wildcard, matches};
pub use matcher::{Matcher, matches_deep};

/// A pattern that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern '{0}': a bracket or an escape is not finished")]
pub struct BadPattern(pub String);
