//! What must live as long as a command runs.

use std::path::PathBuf;

use kiln_cache::{Staging, Volume};
use kiln_sandbox::{Isolation, Ways};

use super::agent::AgentSocket;
use super::mask::Hidden;

/// What must live as long as the command runs.
pub(super) struct Held {
    /// The root that things are moved into and out of, instead of being mounted.
    pub(super) root: Option<PathBuf>,
    pub(super) volumes: Vec<Volume>,
    /// Sockets of SSH agents, which end before their directories go.
    pub(super) agents: Vec<AgentSocket>,
    pub(super) scratch: Vec<Staging>,
    /// The secrets that the command was given.
    pub(super) secrets: Vec<Hidden>,
}

impl Held {
    /// Whether what is mounted is moved in and out instead, so that it must be the command's own.
    pub(super) fn lends(&self) -> bool {
        self.root.is_some()
    }

    pub(super) fn new(ways: Ways, staging: &Staging) -> Self {
        let lends = ways.isolation == Isolation::Chroot;
        Self {
            root: lends.then(|| staging.fs().to_owned()),
            volumes: Vec::new(),
            agents: Vec::new(),
            scratch: Vec::new(),
            secrets: Vec::new(),
        }
    }
}
