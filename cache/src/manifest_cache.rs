//! Manifests in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_graph::{Manifest, TreeId};

/// Manifests read before, up to a number of entries in all.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache(Mutex<HashMap<TreeId, Arc<Manifest>>>);

/// About 200 bytes each: some 200 MB at the most.
const MAX_ENTRIES: usize = 1_000_000;

impl ManifestCache {
    pub(crate) fn get(&self, id: &TreeId) -> Option<Arc<Manifest>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    pub(crate) fn put(&self, id: TreeId, manifest: Arc<Manifest>) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = map.values().map(|manifest| manifest.entries().len()).sum();
        if held + manifest.entries().len() > MAX_ENTRIES {
            map.clear();
        }
        map.insert(id, manifest);
    }
}
