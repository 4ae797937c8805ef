//! Trees that a cluster gave, which it need not be sent again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kiln_graph::TreeId;
use kiln_share::RemoteTree;

/// Those of one build.
#[derive(Debug, Default)]
pub(crate) struct KnownTrees(Mutex<BTreeMap<TreeId, RemoteTree>>);

impl KnownTrees {
    pub(crate) fn add(&self, tree: RemoteTree) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        _ = known.insert(tree.tree, tree);
    }

    pub(crate) fn get(&self, id: &TreeId) -> Option<RemoteTree> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).cloned()
    }
}
