//! Digests of files.

use std::io::{self, Read as _};
use std::path::Path;

use kiln_graph::BlobDigest;
use kiln_tree::host;
use sha2::{Digest as _, Sha256};

/// The digest of a file, which is named like a blob by it.
///
/// # Errors
/// When it can't be read.
pub fn sha256_of(path: &Path) -> io::Result<BlobDigest> {
    let mut file = host::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(BlobDigest::from_sha256(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}
