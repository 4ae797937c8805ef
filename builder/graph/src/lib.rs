//! What a build is, without doing any of it.
//!
//! A [`Graph`] of [`Step`]s says which trees are made from which; a [`Build`] adds the images
//! wanted from it. Frontends make builds, the engine solves them, and the other crates share the
//! vocabulary defined here: [`Digest`]s, [`ImagePath`]s, the [`Manifest`] of a tree, the
//! [`ImageConfig`] document. Nothing here reads a file, a clock or the environment: the same
//! input gives the same graph, byte for byte.

pub mod address;
mod base_image;
mod blob_digest;
mod build;
mod bytes_text;
mod chmod;
mod clean_path;
mod commit;
mod config_check;
pub mod conformance;
mod context_name;
mod digest;
mod duration;
pub mod encode;
mod entitlement;
mod extra_host;
mod fault;
mod frontend;
mod go_bool;
mod graph;
mod graph_builder;
mod image_config;
mod image_path;
mod link;
mod location;
mod op;
pub mod pattern;
mod platform;
mod render;
mod size;
mod step;
mod tree;
mod unix_id;
mod uuid;
mod worker_properties;

pub use base_image::{ImageRequest, ImageTable, ResolvedImage};
pub use blob_digest::{BadBlobDigest, BlobDigest};
pub use build::{Build, Export, HistoryLine, LayerOrigin, Stage, StageStep, Target};
pub use chmod::{BadMode, Chmod};
pub use clean_path::{clean_below_root, clean_path};
pub use commit::is_commit;
pub use config_check::{BadConfig, MAX_CONFIG_ENTRIES};
pub use context_name::{context_for, split_context_name};
pub use digest::{BadDigest, ContentDigest, DefinitionDigest, Digest, StepKey, TreeId};
pub use duration::parse_duration;
pub use entitlement::{BadEntitlement, Entitlement, Entitlements};
pub use extra_host::{HOST_GATEWAY, parse_extra_host};
pub use fault::Fault;
pub use frontend::{Compilation, Frontend};
pub use go_bool::parse_bool;
pub use graph::{DEFINITION_VERSION, Graph, GraphError, StepId};
pub use graph_builder::GraphBuilder;
pub use image_config::{Empty, Healthcheck, History, ImageConfig, RootFs, RunConfig, StringSet};
pub use image_path::ImagePath;
pub use link::{LinkLoop, MAX_LINKS, follow, resolve};
pub use location::Location;
pub use op::{
    CacheMount, ContextSource, CopyFiles, Exec, FileAction, Files, GitSource, HttpRequest,
    HttpSource, ImageLayer, ImageSource, Input, Mount, MountAccess, MountKind, Network, Op, Owner,
    PROXIES, SecretMount, Security, Sharing, SshMount, ULIMITS,
};
pub use platform::{BadPlatform, Platform};
pub use render::Format;
pub use size::{parse_memory, parse_size};
pub use step::{Reuse, Step, StepName};
pub use tree::{Entry, Manifest, Node, Timestamp};
pub use unix_id::{BadUnixId, UnixId};
pub use uuid::{format_uuid, versioned_uuid};
pub use worker_properties::{BadWorkerProperty, WorkerProperties};
