//! Blobs of the store, to be sent.

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
    let missing = |text: String| ImageError::Io {
        what: digest.to_string(),
        source: std::io::Error::other(text),
    };
    match store.blobs().get(digest) {
        Ok(Some(blob)) => Ok(blob.path),
        Ok(None) => Err(missing("is gone from the store".to_owned())),
        Err(error) => Err(missing(error.to_string())),
    }
}
