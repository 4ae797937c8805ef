//! Bounds on what a kiln.toml may ask for. Every one is far above what any known file uses, and
//! keeps the time and memory that a stranger's file can take linear in its size.

/// Bytes of a file and all that it includes.
pub const MAX_FILES: usize = 16 << 20;

/// Files that one includes. What is included includes nothing itself.
pub const MAX_INCLUDES: usize = 100;

/// Tables that extend each other in a row.
pub(crate) const MAX_EXTENDS: usize = 32;

/// Bytes of keys and values that tables have from others.
pub(crate) const MAX_INHERITED: usize = 64 << 20;

/// Groups in each other.
pub(crate) const MAX_GROUP_DEPTH: usize = 32;

/// Steps that one matrix makes.
pub const MAX_COMBINATIONS: usize = 1_000;

/// Steps of a file, those of matrices counted each.
pub const MAX_STEPS: usize = 10_000;

/// Parentheses and `!` of a condition, one in the other.
pub(crate) const MAX_CONDITION_DEPTH: usize = 64;

/// Bytes of a text with names replaced.
pub(crate) const MAX_FILLED: usize = 4 << 20;

/// Bytes of all texts of a compilation with names replaced.
pub(crate) const MAX_PRODUCED: usize = 256 << 20;
