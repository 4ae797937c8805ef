//! What all connections share.

use std::sync::Arc;

use kiln_engine::Engine;
use kiln_graph::Entitlements;
use tokio::runtime::Handle;

use crate::job::Jobs;
use crate::listen::Address;
use crate::session::{Mirrors, Sessions};

/// What a server is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// What clients may allow their builds beyond what every build may. Directories are not among
    /// it: clients name no files of this machine.
    pub granted: Entitlements,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) runtime: Handle,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) mirrors: Mirrors,
    pub(crate) granted: Entitlements,
    /// This worker's name.
    pub(crate) worker: String,
}

impl Server {
    /// A server over an engine.
    pub(crate) fn new(engine: Engine, runtime: Handle, options: &Options) -> Self {
        let root = engine.store().root().to_owned();
        let worker = kiln_graph::Digest::of(root.as_os_str().as_encoded_bytes());
        Self {
            mirrors: Mirrors::of(&root),
            engine,
            runtime,
            sessions: Arc::default(),
            jobs: Arc::default(),
            granted: options.granted.clone(),
            worker: worker.to_string().chars().take(25).collect(),
        }
    }
}
