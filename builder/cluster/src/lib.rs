//! Build clusters that speak Bazel's Remote Execution API, version 2 (REAPI): Buildbarn, BuildGrid,
//! NativeLink, BuildBuddy, EngFlow, bazel-remote and others.
//!
//! Their content-addressable storage and action cache serve as a shared cache ([`ReapiRemote`]).
//! Wire format 1: an entry named `N` is the result of the action
//!
//! ```text
//! Command { arguments: ["kiln", "cache-entry", "1", N], output_paths: ["entry"] }
//! Action  { command: that, input root: the empty directory }
//! ```
//!
//! whose output files are `entry`, the entry's bytes, and `blobs/<SHA-256>` for each blob that the
//! entry names. So a server that checks results for completeness answers "not found" for an entry
//! whose blobs it no longer has, and renews their age when the entry is read. Digests are SHA-256.
//!
//! Steps run on their workers ([`ClusterExecutor`]): each is an action whose inputs are kiln itself, the
//! layers that its root is made of, and a description (`order.rs`); its outputs are the changes of the
//! step as a tree, and a report (`report.rs`). The worker's side is [`run_if_worker`]; a machine whose own
//! store and sandboxes serve others is a [`ClusterNode`].
//!
//! The API: <https://github.com/bazelbuild/remote-apis>, `remote_execution.proto`, and
//! `google/bytestream/bytestream.proto`.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod action;
mod action_cache;
mod capabilities;
mod chain;
mod channel;
mod connection;
mod credentials;
mod digest;
mod dispatch;
mod early;
mod error;
mod execution;
mod executor;
mod executor_settings;
mod failure;
mod handshake;
mod helper;
mod helpers;
mod inputs;
mod kept;
mod known;
mod live;
mod log_stream;
mod moves;
mod node;
mod order;
mod ordered;
mod outputs;
mod placement;
mod progress;
mod remote;
mod report;
mod results;
mod retry;
mod settings;
mod storage;
mod worker;

pub use error::ClusterError;
pub use executor::ClusterExecutor;
pub use executor_settings::{ExecutorSettings, IdsChoice, PlaceChoice};
pub use handshake::Handshake;
pub use node::{ClusterNode, NodeParts};
pub use placement::NetworkChoice;
pub use remote::ReapiRemote;
pub use settings::{BadSettings, ReapiSettings};
pub use worker::run_if_worker;
