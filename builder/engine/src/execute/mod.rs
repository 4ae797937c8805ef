//! Carries steps out on this machine: commands, file operations, sources, and the trees they need.

pub(crate) mod files;
pub(crate) mod redacted_op;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod snapshotter;
pub(crate) mod source;
pub(crate) mod unchanged;
pub(crate) mod view;
pub(crate) mod volume;
