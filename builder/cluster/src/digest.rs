//! Digests as the API has them: lower-case hexadecimal SHA-256, and a size.

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;
use kiln_graph::BlobDigest;
use prost::Message;

/// Bytes to be stored, by their digest.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest = of_bytes(&bytes);
        Self { digest, bytes }
    }

    pub(crate) fn message(message: &impl Message) -> Self {
        Self::new(message.encode_to_vec())
    }
}

pub(crate) fn of_bytes(bytes: &[u8]) -> Digest {
    let digest = BlobDigest::of(bytes);
    of_blob(&digest, bytes.len() as u64)
}

pub(crate) fn of_blob(digest: &BlobDigest, size: u64) -> Digest {
    Digest {
        hash: digest.hex(),
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
    }
}
