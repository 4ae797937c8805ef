//! An image build engine as a library; the `kiln` command (crate `kiln-cli`) is a thin shell over it.
//!
//! [`Engine::solve`] runs a [`Build`](kiln_graph::Build) that a frontend or your own program made;
//! [`build_dockerfile`] goes from a Dockerfile to a solved build. Call [`run_if_helper`] first
//! thing in `main`, then [`open`] an engine.
#![allow(
    clippy::disallowed_methods,
    reason = "opens files that the user names; trees are opened by kiln-tree"
)]

mod attest;
mod build_file;
mod config;
mod context;
mod error;
mod image;
pub mod lock;
mod open;
mod prepare;
mod secret;
mod select;

pub use attest::{
    AttestFlags, AttestOptions, Attested, BuildFacts, Finished, ListedAttestation,
    ProvenanceOptions, Signer, Storage, Verified, list_attestations, publish, push_image,
    verify_image,
};
pub use build_file::{Texts, compile_dockerfile, in_directory as build_file_in, read_inside};
pub use config::{Config, GcPolicy};
pub use context::ContextFrom;
pub use error::Error;
pub use image::{
    ExpireRules, Expired, Policy, PolicyTest, RequiredSignature, SourceName, SourceRules, expire,
};
pub use kiln_engine::{
    CacheMode, CacheSource, CacheTarget, Cancel, DefaultNetwork, Engine, EngineError, Event,
    EventSink, Image, ImageOptions, LayerPlan, Moment, NoSecrets, PathRule, RegistryRemote,
    Request, SecretProvider, SecretValue, Solved,
};
pub use kiln_frontend_dockerfile as dockerfile_frontend;
pub use kiln_frontend_toml as toml_frontend;
pub use kiln_graph as graph;
pub use kiln_sandbox::{Identity, Isolation, IsolationChoice, Privileges, run_if_helper};
pub use open::{open, open_at, open_isolated};
pub use prepare::{
    Assume, CheckedFile, Configure, DockerfileRequest, Located, Locking, Opened, Prepared, Pull,
    build_dockerfile, open_build_file, prepare,
};
pub use secret::{SecretError, SecretSource, Secrets};
pub use select::{select, selector, with_consumers};
