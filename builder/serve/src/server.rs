//! What all connections share.

use std::sync::Arc;

use kiln_cache::PruneOptions;
use kiln_engine::{DefaultNetwork, Engine};
use kiln_graph::Entitlements;
use tokio::runtime::Handle;

use crate::Address;
use crate::collect::Collector;
use crate::history::{History, HistoryLimits};
use crate::job::Jobs;
use crate::other_api::OtherApi;
use crate::session::{Mirrors, Sessions};
use crate::socket::SocketOwner;
use crate::tls::Tls;

/// What a server is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// What clients may allow their builds beyond what every build may. Directories are not among
    /// it: clients name no files of this machine.
    pub granted: Entitlements,
    /// TLS for connections over TCP.
    pub tls: Option<Tls>,
    /// Who may use the sockets in the file system; `None`: the server's user only.
    pub socket_owner: Option<SocketOwner>,
    /// What reads build files.
    pub frontends: Frontends,
    /// The network of steps, unless a client asks for another one that it may have.
    pub network: DefaultNetwork,
    /// How many steps of a build run at once; `None`: as many as there are processors.
    pub jobs: Option<usize>,
    /// What goes from the store after a build, one after the other.
    pub prune: Vec<PruneOptions>,
    /// How many builds of clients are remembered.
    pub history: HistoryLimits,
    /// Another API that is answered at the same addresses.
    pub other: Option<Arc<dyn OtherApi>>,
}

/// Which frontends clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontends {
    /// Whether there is `dockerfile.v0`.
    pub dockerfile: bool,
    /// Whether there is `gateway.v0`, which takes an image's name.
    pub gateway: bool,
    /// The repositories that these images may be from; all, when none are named.
    pub repositories: Vec<String>,
}

impl Default for Frontends {
    fn default() -> Self {
        Self {
            dockerfile: true,
            gateway: true,
            repositories: Vec::new(),
        }
    }
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
    pub(crate) frontends: Frontends,
    pub(crate) network: DefaultNetwork,
    pub(crate) jobs_at_once: Option<usize>,
    collector: Arc<Collector>,
    pub(crate) history: History,
    pub(crate) other: Option<Arc<dyn OtherApi>>,
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
            history: History::of(&root, options.history),
            other: options.other.clone(),
            engine,
            runtime,
            sessions: Arc::default(),
            jobs: Arc::default(),
            granted: options.granted.clone(),
            frontends: options.frontends.clone(),
            network: options.network,
            jobs_at_once: options.jobs,
            collector: Arc::new(Collector::new(options.prune.clone())),
            worker: worker.to_string().chars().take(25).collect(),
        }
    }

    /// Removes things from the store in the background, as the configuration says.
    pub(crate) fn collect(&self) {
        self.collector.start(self.engine.store().clone());
    }
}
