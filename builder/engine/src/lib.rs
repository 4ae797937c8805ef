//! Solves builds on this machine: [`Engine::solve`] takes a [`Request`] and gives a [`Solved`]; that
//! makes [`Image`]s and file trees of it. Everything that happens is told to the request's
//! [`EventSink`].
//!
//! The parts are crates: [`kiln_solve`] decides, [`kiln_execute`] carries out, [`kiln_export`] makes
//! something of the results. Here they are put together.

mod container;
mod engine;
mod failed;
mod images;
mod join;
mod machine;
mod named;
mod request;
mod solved;

pub use container::Shown;
pub use engine::Engine;
pub use images::Images;
pub use join::Joined;
pub use kiln_delta::artifact::{ARTIFACT_TYPE as DELTA_ARTIFACT, SOURCE as DELTA_SOURCE};
pub use kiln_execute::{
    Around, ChangedFiles, Container, ContainerProcess, DefaultNetwork, Elsewhere, EngineError,
    FilesError, LeftBehind, Moment, Needed, NoSecrets, Pin, Pins, SecretError, SecretProvider,
    SecretValue, Started, StepFailure, There, VolumeTransfer, WrongChecksum, keyed_volume,
};
pub use kiln_execute::{conformance, parallel};
pub use kiln_export::{
    Annotations, CacheMode, CacheTarget, Delta, DeltaMaker, DeltaReport, Difference, Exported,
    Image, ImageOptions, ImageReport, InlineCache, LayerPlan, LayerReport, Level, MergedIndex,
    OutputEntry, PathRule, Rebase, Side, SquashfsCodec, Unreproducible, left_out_warning,
    missing_program, with_prefix, write_cpio, write_directory, write_erofs, write_ext4,
    write_root_tar, write_squashfs,
};
pub use kiln_share::{
    CacheSigner, CacheSource, CacheTrust, DirectoryRemote, InlineRemote, RegistryRemote, Remote,
    RemoteBlob, RemoteError, Volumes,
};
pub use kiln_solve::{
    Cancel, CancelHook, EVENTS_VERSION, Edits, Event, EventSink, Fate, Forecast, Meter, Metered,
    Outcome, PlannedStep, StepRef, Stream,
};
pub use request::Request;
pub use solved::Solved;
