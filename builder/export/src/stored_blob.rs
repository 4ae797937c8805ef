//! Blobs of the store, to be sent.

use std::fmt::Display;
use std::path::PathBuf;

use kiln_cache::{Blob, Store};
use kiln_execute::EngineError;
use kiln_graph::BlobDigest;
use kiln_image::ImageError;

/// A blob that must be in the store.
pub(crate) fn kept(store: &Store, digest: &BlobDigest) -> Result<Blob, EngineError> {
    store.blobs().get(digest)?.ok_or_else(|| EngineError::Gone {
        what: format!("blob {digest}"),
    })
}

/// The file of a blob that must be in the store.
pub(crate) fn stored(store: &Store, digest: &BlobDigest) -> Result<PathBuf, ImageError> {
    match store.blobs().get(digest) {
        Ok(Some(blob)) => Ok(blob.path),
        Ok(None) => Err(unavailable(digest, "is gone from the store")),
        Err(error) => Err(unavailable(digest, error)),
    }
}

/// Why a blob can't be sent.
pub(crate) fn unavailable(digest: &BlobDigest, error: impl Display) -> ImageError {
    ImageError::Io {
        what: digest.to_string(),
        source: std::io::Error::other(error.to_string()),
    }
}
