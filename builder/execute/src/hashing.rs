//! A writer that takes the SHA-256 of what passes.

use std::io::{self, Write};

use kiln_graph::BlobDigest;
use sha2::{Digest as _, Sha256};

pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Flushes, and gives the digest of what was written.
    pub(crate) fn finish(mut self) -> io::Result<BlobDigest> {
        self.inner.flush()?;
        Ok(BlobDigest::from_sha256(self.hash.finalize().into()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
