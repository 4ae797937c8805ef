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
        self.store.adopt_blob(&self.path, actual, self.size)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        _ = host::remove_file(&self.path);
    }
}

impl Store {
    pub(crate) fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.sharded("blobs/sha256", &digest.hex())
    }

    /// Starts a blob.
    ///
    /// # Errors
    /// When its file can't be made.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let (path, file) = self.temp_file()?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// A new file on the store's file system, to be given to [`Store::adopt_blob`] or removed.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn temp_file(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.temp_path();
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = host::open_with(&options, &path);
        let file = file.context("create", &path)?;
        Ok((path, file))
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let digest = BlobDigest::of(bytes);
        if let Some(blob) = self.blob(&digest)? {
            return Ok(blob);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).context("write", &writer.path)?;
        writer.commit(Some(digest))
    }

    /// Makes a file of [`Store::temp_file`] a blob whose digest the caller has computed from the
    /// very bytes written.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn adopt_blob(
        &self,
        file: &Path,
        digest: BlobDigest,
        size: u64,
    ) -> Result<Blob, StoreError> {
        let path = self.blob_path(&digest);
        let _kept = self.gc_lock(Mode::Shared)?;
        pending::mark(self, &path)?;
        rename(file, &path)?;
        Ok(Blob { digest, size, path })
    }

    /// A blob, if it is there; it is touched (see [`Store::record`]).
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn blob(&self, digest: &BlobDigest) -> Result<Option<Blob>, StoreError> {
        let _kept = self.gc_lock(Mode::Shared)?;
        let path = self.blob_path(digest);
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
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(bytes).unwrap();
            writer.commit(expected)
        };
        let good = write(b"good", None).unwrap();
        assert_eq!(std::fs::read(&good.path).unwrap(), b"good");
        assert_eq!(store.blob(&good.digest).unwrap(), Some(good.clone()));
        let error = write(b"bad", Some(good.digest)).unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }));
        assert_eq!(store.put_blob(b"good").unwrap(), good);
        assert!(
            std::fs::read_dir(store.path("tmp"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}
