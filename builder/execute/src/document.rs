//! Manifests, indexes and configurations in the store.

use kiln_cache::Store;
use kiln_graph::BlobDigest;
use kiln_tree::host;
use serde::de::DeserializeOwned;

use crate::EngineError;

/// A document of the store; nothing when it isn't there, or is of another kind.
///
/// # Errors
/// When the store can't be read.
pub fn document<T: DeserializeOwned>(
    store: &Store,
    digest: &BlobDigest,
) -> Result<Option<T>, EngineError> {
    let Some(blob) = store.blobs().get(digest)? else {
        return Ok(None);
    };
    let bytes = host::read(&blob.path).unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).ok())
}
