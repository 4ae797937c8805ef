//! Carries steps out on this machine: commands in sandboxes, file operations, sources, and the trees
//! they need; keeps their results in the store and finds them in shared caches.
//!
//! What is here implements the traits of [`kiln_solve`] with one error, [`EngineError`].
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod clock;
pub mod conformance;
mod contents;
pub mod delta;
mod distant;
mod document;
mod elsewhere;
mod error;
mod files;
mod hashing;
mod import;
mod joined;
mod meter;
pub mod parallel;
mod records;
mod redacted_op;
mod run;
mod secret;
mod secret_error;
mod shared;
mod shell;
mod single_files;
mod snapshotter;
mod source;
mod state;
#[cfg(test)]
mod test_entry;
mod unchanged;
mod view;
mod volume;

pub use clock::now;
pub use contents::ContentReader;
pub use distant::{Distant, DistantTrees};
pub use document::document;
pub use elsewhere::{Around, AtOnce, Elsewhere, ElsewhereExecutor, Moves, There};
pub use error::{ChangedFiles, EngineError, LeftBehind, Needed, StepFailure, WrongChecksum};
pub use files::{FileExecutor, FilesError};
pub use joined::joined;
pub use meter::meter;
pub use records::Records;
pub use run::{
    CommandExecutor, CommandOptions, Container, ContainerProcess, DefaultNetwork, Started,
    check_configurations,
};
pub use secret::{NoSecrets, SecretProvider, SecretValue};
pub use secret_error::SecretError;
pub use shared::SharedSources;
pub use shell::{interact, surroundings};
pub use snapshotter::Snapshotter;
pub use source::{
    ContextResolver, GitOptions, GitResolver, HttpResolver, LocalSources, Pin, Pins, known_checksum,
};
pub use state::{Moment, failed_tree, keep_failed, state_at, state_left};
pub use view::{Found, Layer, View, view_of};
pub use volume::{VolumeFinder, VolumeTransfer, export_volume, import_volume, keyed_volume};
