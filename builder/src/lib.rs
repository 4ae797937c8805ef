//! An image build engine as a library; the `kiln` command is a thin shell over it.
//!
//! [`Engine::solve`] runs a [`Build`](kiln_graph::Build) that a frontend or your own program made;
//! [`build_dockerfile`] goes from a Dockerfile to a solved build. Call [`run_if_helper`] first
//! thing in `main`, then [`open`] an engine.

mod age;
mod base_image;
mod build_file;
pub mod cli;
mod config;
mod context;
pub mod convert;
mod error;
mod expire;
pub mod explain;
mod inside;
mod journal;
mod lock;
mod open;
#[cfg(feature = "otlp")]
mod otlp;
mod policy;
mod prepare;
mod progress;
mod report;
mod secret;
mod select;
mod summary;
mod terminal;
mod texts;
mod toml_file;
mod untag;
mod what_if;

pub use config::{Config, GcPolicy};
pub use context::ContextFrom;
pub use error::Error;
pub use expire::{ExpireRules, Expired, expire};
pub use kiln_engine::{
    CacheMode, CacheSource, CacheTarget, Cancel, DefaultNetwork, Engine, EngineError, Event,
    EventSink, Image, ImageOptions, LayerPlan, Moment, NoSecrets, PathRule, RegistryRemote,
    Request, SecretProvider, SecretValue, Solved,
};
pub use kiln_frontend_dockerfile as dockerfile_frontend;
pub use kiln_frontend_toml as toml_frontend;
pub use kiln_graph as graph;
pub use kiln_sandbox::{Identity, run_if_helper};
pub use open::{open, open_at};
pub use policy::Policy;
pub use prepare::{Configure, DockerfileRequest, Locking, Prepared, build_dockerfile, prepare};
pub use secret::{SecretSource, Secrets};
pub use select::{select, with_consumers};
pub use texts::Texts;
