//! Blobs that came with an action, as what trees are fetched from.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use kiln_cache::Blob;
use kiln_execute::{EngineError, Snapshotter};
use kiln_graph::{BlobDigest, ImageLayer};
use kiln_share::{Remote, RemoteBlob, RemoteError};
use kiln_tree::host;

use crate::order::{BLOBS, IMAGE};

/// The blobs among an action's inputs. Nothing is written to them: a worker may link them from its
/// cache.
#[derive(Debug)]
pub(super) struct PackedBlobs;

fn path_of(digest: &BlobDigest) -> PathBuf {
    Path::new(BLOBS).join(digest.hex())
}

impl PackedBlobs {
    /// Unpacks an image's layer where it lies: what it unpacks to is compared with the digest of its tar.
    pub(super) fn unpack(trees: &Snapshotter, layer: &ImageLayer) -> Result<(), EngineError> {
        let blob = Blob {
            digest: layer.blob,
            size: layer.size,
            path: path_of(&layer.blob),
        };
        let unpacked = trees.unpacked(&blob, layer, IMAGE, &|_| {});
        unpacked.map(drop)
    }
}

impl Remote for PackedBlobs {
    fn name(&self) -> String {
        "the action's inputs".to_owned()
    }

    fn entry(&self, _: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        Ok(None)
    }

    fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        Err(RemoteError::Denied("inputs can't be written".to_owned()))
    }

    fn blob(&self, digest: &BlobDigest, _: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let fail = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => RemoteError::Damaged(format!("{digest} is missing")),
            _ => RemoteError::Unreachable(error.to_string()),
        };
        let mut file = host::open(path_of(digest)).map_err(fail)?;
        std::io::copy(&mut file, out).map(drop).map_err(fail)
    }
}
