//! What this process's builds use.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_graph::TreeId;

/// The trees that this process has touched since its latest session began: as long as one lives
/// they are there, and need not be touched again.
#[derive(Debug, Default)]
pub(crate) struct InUse(Mutex<Touched>);

#[derive(Debug, Default)]
struct Touched {
    sessions: usize,
    trees: HashSet<TreeId>,
}

impl InUse {
    fn lock(&self) -> MutexGuard<'_, Touched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self) {
        let mut touched = self.lock();
        touched.sessions += 1;
        // What was touched before is safe for no longer than the sessions before.
        touched.trees.clear();
    }

    pub(crate) fn end(&self) {
        let mut touched = self.lock();
        touched.sessions -= 1;
        if touched.sessions == 0 {
            touched.trees.clear();
        }
    }

    pub(crate) fn has(&self, id: &TreeId) -> bool {
        self.lock().trees.contains(id)
    }

    pub(crate) fn add(&self, id: TreeId) {
        let mut touched = self.lock();
        if touched.sessions > 0 {
            touched.trees.insert(id);
        }
    }

    /// Forgets all: what was there may have been taken away as damaged.
    pub(crate) fn clear(&self) {
        self.lock().trees.clear();
    }
}
