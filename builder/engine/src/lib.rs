//! Solves a graph: schedules steps, looks results up, executes what is missing, assembles images.
//!
//! [`Engine::solve`] takes a [`Request`] and gives a [`Solved`]; that makes [`Image`]s and file
//! trees of it. Everything that happens is told to the request's [`EventSink`].

mod allowed;
mod annotation;
mod assemble;
mod cancel;
mod context;
mod copied;
mod created;
mod engine;
mod error;
mod event;
mod exec;
mod extract;
mod file_step;
mod files;
mod forecast;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod index;
mod inspect;
mod kept;
mod key;
mod layering;
mod layers;
mod leak;
mod mask;
mod media_types;
mod merged;
mod meter;
mod output;
mod output_folder;
mod parallel;
mod pin;
mod rebase;
mod remote;
mod reproduce;
mod schedule;
mod secrets;
mod snapshot;
mod solve;
mod source;
mod step;
mod stored;
mod view;
mod volume_key;

pub use annotation::Annotations;
pub use assemble::{Image, ImageOptions};
pub use cancel::Cancel;
pub use engine::{DefaultNetwork, Engine, Request};
pub use error::{ChangedFiles, EngineError, StepFailure};
pub use event::{EVENTS_VERSION, Event, EventSink, Outcome, PlannedStep, StepRef, Stream};
pub use exec::Moment;
pub use files::FilesError;
pub use forecast::{Edits, Fate, Forecast};
pub use index::MergedIndex;
pub use inspect::{Difference, ImageReport, LayerReport};
pub use layering::{LayerPlan, PathRule};
pub use meter::{Meter, Metered};
pub use output::{OutputEntry, with_prefix, write_root_tar};
pub use output_folder::{left_out_warning, write_folder};
pub use pin::{Pin, Pins};
pub use rebase::Rebase;
pub use remote::{
    CacheMode, CacheSource, CacheTarget, Exported, InlineCache, InlineRemote, RegistryRemote,
    VolumeTransfer, Volumes,
};
pub use reproduce::Unreproducible;
pub use secrets::{NoSecrets, SecretProvider, SecretValue};
pub use solve::Solved;
pub use volume_key::keyed_volume;
