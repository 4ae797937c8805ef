//! Solves a graph: schedules steps, looks results up, executes what is missing, assembles images.
//!
//! [`Engine::solve`] takes a [`Request`] and gives a [`Solved`]; that makes [`Image`]s and file
//! trees of it. Everything that happens is told to the request's [`EventSink`].
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod engine;
mod error;
mod execute;
mod export;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod machine;
mod parallel;
mod request;
mod solved;

pub use engine::Engine;
pub use error::{ChangedFiles, EngineError, StepFailure};
pub use execute::files::FilesError;
pub use execute::run::network::DefaultNetwork;
pub use execute::secret::{NoSecrets, SecretProvider, SecretValue};
pub use execute::source::pin::{Pin, Pins};
pub use execute::state::Moment;
pub use execute::volume::keyed_volume;
pub use execute::volume::transfer::VolumeTransfer;
pub use export::annotation::Annotations;
pub use export::assemble::Image;
pub use export::image_options::{ImageOptions, InlineCache};
pub use export::index::MergedIndex;
pub use export::inspect::{Difference, ImageReport, LayerReport};
pub use export::layering::{LayerPlan, PathRule};
pub use export::local::{left_out_warning, write_folder};
pub use export::output::{OutputEntry, with_prefix, write_root_tar};
pub use export::rebase::Rebase;
pub use export::reproduce::Unreproducible;
pub use export::shared_cache::{CacheMode, CacheTarget, Exported};
pub use kiln_share::{CacheSource, InlineRemote, RegistryRemote, Volumes};
pub use kiln_solve::{
    Cancel, EVENTS_VERSION, Edits, Event, EventSink, Fate, Forecast, Meter, Metered, Outcome,
    PlannedStep, StepRef, Stream,
};
pub use request::Request;
pub use solved::Solved;
