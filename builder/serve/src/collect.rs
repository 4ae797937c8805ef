//! What goes from the store after builds, as the server's configuration says.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use kiln_cache::{PruneOptions, Store};

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

    /// The lock to do it under; `None` when it is done now, or was a short while ago.
    fn due(&self) -> Option<MutexGuard<'_, Option<Instant>>> {
        let last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let is_early = last.is_some_and(|at| at.elapsed() < PAUSE);
        (!is_early).then_some(last)
    }

    fn run(&self, store: &Store) {
        let Some(mut last) = self.due() else { return };
        for policy in &self.policies {
            // What can't be removed now is after a later build.
            _ = store.prune(policy);
        }
        *last = Some(Instant::now());
    }

    /// Collects in the background, unless that is done already or was a short while ago.
    pub(crate) fn start(self: &Arc<Self>, store: Store) {
        if self.policies.is_empty() || self.due().is_none() {
            return;
        }
        let collector = self.clone();
        tokio::task::spawn_blocking(move || collector.run(&store));
    }
}
