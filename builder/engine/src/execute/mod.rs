//! Carries steps out on this machine: commands, file operations, sources, and the trees they need.

pub(crate) mod clock;
pub(crate) mod contents;
pub(crate) mod distant;
pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod meter;
pub(crate) mod records;
mod redacted_op;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod shared;
pub(crate) mod shell;
pub(crate) mod snapshotter;
pub(crate) mod source;
pub(crate) mod state;
mod unchanged;
pub(crate) mod view;
pub(crate) mod volume;
