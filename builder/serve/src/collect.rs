//! What goes from the store after builds, as the server's configuration says.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use kiln_cache::PruneOptions;

use crate::server::Server;

/// Looking through a large store takes time: it is not done again before.
const PAUSE: Duration = Duration::from_secs(60);

/// Removes things by policies, one collection at a time.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    policies: Vec<PruneOptions>,
    /// When it was done last; locked while it is.
    last: Mutex<Option<Instant>>,
}

impl Collector {
    /// Collects by these policies, in their order.
    pub(crate) fn new(policies: Vec<PruneOptions>) -> Self {
        Self {
            policies,
            last: Mutex::default(),
        }
    }

    /// Whether it is done now, or was a short while ago.
    fn is_early(&self) -> bool {
        match self.last.try_lock() {
            Ok(last) => last.is_some_and(|at| at.elapsed() < PAUSE),
            Err(TryLockError::Poisoned(_)) => false,
            Err(TryLockError::WouldBlock) => true,
        }
    }

    fn run(&self, server: &Server) {
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if last.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        for policy in &self.policies {
            // What can't be removed now is after a later build.
            _ = server.engine.store().prune(policy);
        }
        *last = Some(Instant::now());
    }
}

/// Collects in the background, unless that is done already or was a short while ago.
pub(crate) fn collect(server: &Arc<Server>) {
    if server.collector.policies.is_empty() || server.collector.is_early() {
        return;
    }
    let server = server.clone();
    tokio::task::spawn_blocking(move || server.collector.run(&server));
}
