//! Blobs: `blobs/sha256/<2 hex>/<hex>`: compressed layers, manifests, configurations.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kiln_graph::BlobDigest;
use kiln_tree::host;
use sha2::{Digest as _, Sha256};

use crate::error::Context as _;
use crate::lock::Mode;
use crate::sha256::sha256_of;
use crate::staging::rename;
use crate::{Store, StoreError, pending, session};

/// A stored blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it lies. Never to be written to.
    pub path: PathBuf,
}

impl Blob {
    /// Reads all of it and compares it with its digest.
    ///
    /// # Errors
    /// When it is something else, or can't be read.
    pub fn check(&self) -> Result<(), StoreError> {
        let actual = sha256_of(&self.path).context("read", &self.path)?;
        if actual == self.digest {
            return Ok(());
        }
        let expected = self.digest;
        Err(StoreError::WrongDigest { expected, actual })
    }
}

/// Takes a blob's bytes and finds its digest; dropped before it is committed, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter {
    /// Makes the blob visible.
    ///
    /// # Errors
    /// When it is not the one expected, or the store can't be written.
    pub fn commit(self, expected: Option<BlobDigest>) -> Result<Blob, StoreError> {
        let actual = BlobDigest::from_sha256(self.hash.clone().finalize().into());
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(StoreError::WrongDigest { expected, actual });
        }
        self.store.blobs().adopt(&self.path, actual, self.size)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        _ = host::remove_file(&self.path);
    }
}

/// The blobs of a store; [`Store::blobs`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Blobs<'a>(&'a Store);

impl Store {
    /// Its blobs.
    #[must_use]
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs(self)
    }
}

impl Blobs<'_> {
    pub(crate) fn path_of(&self, digest: &BlobDigest) -> PathBuf {
        self.0.sharded("blobs/sha256", &digest.hex())
    }

    /// Starts a blob.
    ///
    /// # Errors
    /// When its file can't be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let (path, file) = self.0.temp_file()?;
        Ok(BlobWriter {
            store: self.0.clone(),
            path,
            file,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let digest = BlobDigest::of(bytes);
        if let Some(blob) = self.get(&digest)? {
            return Ok(blob);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).context("write", &writer.path)?;
        writer.commit(Some(digest))
    }

    /// Makes a file of [`Store::temp_file`] a blob whose digest the caller has computed from the
    /// very bytes written.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn adopt(&self, file: &Path, digest: BlobDigest, size: u64) -> Result<Blob, StoreError> {
        let path = self.path_of(&digest);
        let _kept = self.0.gc_lock(Mode::Shared)?;
        pending::mark(self.0, &path)?;
        rename(file, &path)?;
        Ok(Blob { digest, size, path })
    }

    /// A blob, if it is there; it is touched (see [`Records::get`](crate::Records::get)).
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn get(&self, digest: &BlobDigest) -> Result<Option<Blob>, StoreError> {
        let _kept = self.0.gc_lock(Mode::Shared)?;
        let path = self.path_of(digest);
        if !session::touch(&path) {
            return Ok(None);
        }
        let size = host::metadata(&path).context("look at", &path)?.len();
        Ok(Some(Blob {
            digest: *digest,
            size,
            path,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn only_the_expected_becomes_visible() {
        let (_directory, store) = scratch_store();
        let write = |bytes: &[u8], expected| {
            let mut writer = store.blobs().writer().unwrap();
            writer.write_all(bytes).unwrap();
            writer.commit(expected)
        };
        let good = write(b"good", None).unwrap();
        assert_eq!(std::fs::read(&good.path).unwrap(), b"good");
        assert_eq!(store.blobs().get(&good.digest).unwrap(), Some(good.clone()));
        let error = write(b"bad", Some(good.digest)).unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }));
        assert_eq!(store.blobs().put(b"good").unwrap(), good);
        assert!(
            std::fs::read_dir(store.path("tmp"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}
