//! Manifests, indexes and configurations that were fetched before, so that a name with a digest is
//! looked up without asking a registry.

use std::fmt;

use kiln_graph::BlobDigest;

use crate::Client;

/// Keeps small documents by their digests.
pub trait Documents: fmt::Debug + Send + Sync {
    /// A document, if it is here. It need not be checked.
    fn get(&self, digest: &BlobDigest) -> Option<Vec<u8>>;

    /// Keeps a document. What can't be kept is fetched again.
    fn put(&self, bytes: &[u8]);
}

impl Client {
    /// A document that was fetched before, and is what its digest says.
    pub(crate) fn kept(&self, digest: &BlobDigest) -> Option<Vec<u8>> {
        let bytes = self.documents()?.get(digest)?;
        let actual = BlobDigest::of(&bytes);
        (actual == *digest).then_some(bytes)
    }

    pub(crate) fn keep(&self, bytes: &[u8]) {
        if let Some(documents) = self.documents() {
            documents.put(bytes);
        }
    }
}
