//! Manifests, indexes and configurations that were fetched before, so that a name with a digest is
//! looked up without asking a registry.

use std::fmt;

use kiln_graph::BlobDigest;

/// Keeps small documents by their digests.
pub trait Documents: fmt::Debug + Send + Sync {
    /// A document, if it is here. It need not be checked.
    fn get(&self, digest: &BlobDigest) -> Option<Vec<u8>>;

    /// Keeps a document. What can't be kept is fetched again.
    fn put(&self, bytes: &[u8]);
}
