//! The operation that runs a command.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mount::Mount;
use crate::{ImagePath, Input};

/// A command run in a tree; the result is the tree with its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The tree that is the command's root.
    pub root: Input,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Proxy variables: given to the command, never part of a key.
    pub proxy: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: ImagePath,
    /// `USER[:GROUP]`, names or numbers, looked up in the root; `None`: root.
    pub user: Option<String>,
    /// What is mounted for the time of the command.
    pub mounts: Vec<Mount>,
    /// What the command can reach.
    pub network: Network,
    /// Whether confinement is lifted.
    pub security: Security,
    /// The host name; `None`: a fixed one.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits, by name as in `ulimit`: soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// How often a failing command is tried again, each time in a clean tree.
    pub retries: u32,
    /// After how long the command is killed.
    pub timeout: Option<Duration>,
    /// Exit statuses that count as success besides 0.
    pub accept_status: Vec<i32>,
}

/// Proxy settings as `docker build` knows them: given to every command, never recorded.
pub const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Names of resource limits, as `ulimit` and `getrlimit(2)` call them.
pub const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The network of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The builder's default, which the command line sets.
    #[default]
    Default,
    /// The host's own.
    Host,
    /// Loopback only.
    None,
    /// A network of its own, from which the host's is reached but not the host itself.
    Sandbox,
}

impl Network {
    /// What a step gets that asks for this, where `default` is what the user gave to those that don't ask: never
    /// more than that, but for the host's own, which the user allows by itself.
    #[must_use]
    pub fn within(self, default: Self) -> Self {
        match (self, default) {
            (Self::Default, default) => default,
            (Self::Sandbox, Self::None) => Self::None,
            (own, _) => own,
        }
    }
}

/// Confinement of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// As container runtimes confine.
    #[default]
    Sandbox,
    /// All capabilities; needs the entitlement `security.insecure`.
    Insecure,
}

impl Exec {
    /// A command that asks for nothing more than to be run in a tree.
    #[must_use]
    pub fn new(root: Input, args: Vec<String>) -> Self {
        Self {
            root,
            args,
            env: Vec::new(),
            proxy: BTreeMap::new(),
            cwd: ImagePath::root(),
            user: None,
            mounts: Vec::new(),
            network: Network::default(),
            security: Security::default(),
            hostname: None,
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            retries: 0,
            timeout: None,
            accept_status: Vec::new(),
        }
    }

    pub(crate) fn inputs(&self) -> Vec<Input> {
        let mounted = self.mounts.iter().filter_map(|mount| mount.kind.input());
        std::iter::once(self.root).chain(mounted).collect()
    }
}
