//! Bounds on what a build file may ask for. Every one is far above what any known build file
//! uses, and keeps the time and memory that a stranger's file can take linear in its size.

/// Bytes of a build file.
pub const MAX_FILE: usize = 16 << 20;

/// Bytes of one physical line; BuildKit's scanner has the same limit.
pub const MAX_LINE: usize = 65_535;

/// Instructions of a file.
pub const MAX_INSTRUCTIONS: usize = 100_000;

/// Stages of a file.
pub const MAX_STAGES: usize = 4_000;

/// `${a:-${b:-…}}` nested in each other.
pub(crate) const MAX_SUBSTITUTION_DEPTH: usize = 64;

/// Bytes that one word or here-document expands to.
pub(crate) const MAX_EXPANDED: usize = 4 << 20;

/// Bytes of all variables of a stage: names, values and two bytes each. The kernel gives a program
/// no more than 6 MiB for its arguments and environment.
pub(crate) const MAX_ENVIRONMENT: usize = 4 << 20;

/// Bytes that a whole compilation may produce: expanded words, history, environments of commands.
pub(crate) const MAX_PRODUCED: usize = 256 << 20;

/// Characters of a pattern in `${name#pattern}` and its kin.
pub(crate) const MAX_PATTERN: usize = 1_024;

/// Steps of all pattern matching of one word: characters times elements of the pattern.
pub(crate) const MAX_PATTERN_WORK: usize = 50_000_000;

/// Ports that one EXPOSE may name.
pub(crate) const MAX_PORTS: usize = 65_536;

/// Names that are looked through for what somebody may have meant.
pub(crate) const MAX_SUGGESTIONS: usize = 500;

/// ONBUILD triggers of a base image.
pub(crate) const MAX_TRIGGERS: usize = 1_000;
