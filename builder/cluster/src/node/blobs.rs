//! The storage of a node: blobs of its store, and the program that it is.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::OnceLock;

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;
use kiln_cache::{Blob, BlobWriter, Store, StoreError};
use kiln_graph::BlobDigest;
use kiln_tree::host;
use tonic::Status;

use crate::digest::of_blob;
use crate::helper::Helper;

/// No blob is larger, in bytes.
pub(super) const MAX_BLOB: u64 = 64 << 30;

/// What a node stores.
pub(super) struct Blobs {
    store: Store,
    /// Its own program, as clients of the same release send it along.
    own: OnceLock<BTreeMap<BlobDigest, Blob>>,
}

/// A digest as clients say it, once it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
}

impl Asked {
    /// Reads a digest.
    pub(super) fn read(digest: &Digest) -> Result<Self, Status> {
        let bad = || Status::invalid_argument(format!("'{}' is no digest", digest.hash));
        let text = format!("sha256:{}", digest.hash);
        let parsed: BlobDigest = text.parse().map_err(|_| bad())?;
        let size = u64::try_from(digest.size_bytes).map_err(|_| bad())?;
        if size > MAX_BLOB {
            let text = format!("a blob of {size} bytes: {MAX_BLOB} are the most");
            return Err(Status::invalid_argument(text));
        }
        Ok(Self {
            digest: parsed,
            size,
        })
    }

    /// The same of a digest that must be there.
    pub(super) fn of(digest: Option<&Digest>) -> Result<Self, Status> {
        let digest = digest.ok_or_else(|| Status::invalid_argument("a digest is missing"))?;
        Self::read(digest)
    }

    pub(super) fn message(self) -> Digest {
        of_blob(&self.digest, self.size)
    }
}

impl Blobs {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            own: OnceLock::new(),
        }
    }

    /// A blob, if it is there and as long as its digest says.
    pub(super) fn find(&self, asked: Asked) -> Result<Option<Blob>, Status> {
        let stored = self
            .store
            .blobs()
            .get(&asked.digest)
            .map_err(|e| failed(&e))?;
        let own = || self.own.get_or_init(own_program);
        let blob = stored.or_else(|| own().get(&asked.digest).cloned());
        Ok(blob.filter(|blob| blob.size == asked.size))
    }

    /// Whether a blob is there; the empty one always is.
    pub(super) fn has(&self, asked: Asked) -> Result<bool, Status> {
        Ok(asked.size == 0 || self.find(asked)?.is_some())
    }

    /// The bytes of a blob that may not be longer than `max`.
    pub(super) fn read(&self, asked: Asked, max: u64) -> Result<Vec<u8>, Status> {
        // The empty blob is there without having been sent.
        if asked.size == 0 {
            return Ok(Vec::new());
        }
        if asked.size > max {
            let text = format!("a message of {} bytes: {max} are the most", asked.size);
            return Err(Status::invalid_argument(text));
        }
        let found = self.find(asked)?.ok_or_else(|| missing(asked))?;
        let bytes = host::read(&found.path).map_err(|error| unread(&error))?;
        match bytes.len() as u64 == asked.size {
            true => Ok(bytes),
            false => Err(missing(asked)),
        }
    }

    /// Stores bytes under the digest that they must have.
    pub(super) fn put(&self, asked: Asked, bytes: &[u8]) -> Result<(), Status> {
        if bytes.len() as u64 != asked.size {
            return Err(Status::invalid_argument(
                "a blob has another length than its digest",
            ));
        }
        let mut write = self.begin()?;
        write.add(bytes)?;
        write.end(asked)
    }

    /// Stores bytes of the node's own.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<Asked, Status> {
        let Blob { digest, size, .. } = self.store.blobs().put(bytes).map_err(|e| failed(&e))?;
        Ok(Asked { digest, size })
    }

    pub(super) fn begin(&self) -> Result<Incoming, Status> {
        let writer = self.store.blobs().writer();
        writer.map(Incoming).map_err(|error| failed(&error))
    }
}

/// A blob that comes in.
pub(super) struct Incoming(BlobWriter);

impl Incoming {
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.0.write_all(bytes).map_err(|error| unread(&error))
    }

    /// Nothing is kept of what has another digest.
    pub(super) fn end(self, asked: Asked) -> Result<(), Status> {
        match self.0.commit(Some(asked.digest)) {
            Ok(_) => Ok(()),
            Err(StoreError::WrongDigest { expected, actual }) => {
                let text = format!("a blob was said to be {expected}, and is {actual}");
                Err(Status::invalid_argument(text))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Up to `most` bytes of a file from an offset; fewer at its end only.
pub(super) fn part(path: &std::path::Path, from: u64, most: usize) -> Result<Vec<u8>, Status> {
    let read = || {
        let mut file = host::open(path)?;
        _ = file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::with_capacity(most);
        _ = file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: std::io::Error| unread(&error))
}

fn own_program() -> BTreeMap<BlobDigest, Blob> {
    let Ok(helper) = Helper::own() else {
        return BTreeMap::new();
    };
    let files = std::iter::once(helper.program).chain(helper.libraries);
    let files = files.filter_map(|file| {
        let Asked { digest, size } = Asked::read(&file.digest).ok()?;
        let path = file.path;
        Some((digest, Blob { digest, size, path }))
    });
    files.collect()
}

pub(super) fn missing(asked: Asked) -> Status {
    Status::not_found(format!(
        "there is no blob {} of {} bytes",
        asked.digest, asked.size
    ))
}

fn unread(error: &std::io::Error) -> Status {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Status::resource_exhausted("the disk is full")
        }
        _ => Status::internal(format!("the store can't be used: {}", error.kind())),
    }
}

/// What went wrong with the store, without its paths.
pub(super) fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Io { source, .. } => unread(source),
        _ => Status::internal("the store can't be used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_strictly() {
        let hash = "a".repeat(64);
        let read = |hash: &str, size_bytes| {
            let hash = hash.to_owned();
            Asked::read(&Digest { hash, size_bytes })
        };
        assert_eq!(read(&hash, 5).unwrap().message().hash, hash);
        for (hash, size) in [
            ("", 0),
            ("abc", 1),
            (&"A".repeat(64)[..], 1),
            (&"g".repeat(64)[..], 1),
            (&"../".repeat(22)[..64], 1),
            (&hash[..], -1),
            (&hash[..], i64::MAX),
        ] {
            assert!(read(hash, size).is_err(), "{hash} {size}");
        }
    }

    #[test]
    fn blobs_are_what_their_digests_say_or_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), kiln_cache::Options::default()).unwrap();
        let blobs = Blobs::new(store);
        let asked = |bytes: &[u8]| Asked::read(&crate::digest::of_bytes(bytes)).unwrap();
        assert!(blobs.put(asked(b"one"), b"two").is_err());
        assert!(blobs.put(asked(b"one"), b"one and more").is_err());
        assert!(blobs.find(asked(b"one")).unwrap().is_none());
        blobs.put(asked(b"one"), b"one").unwrap();
        assert_eq!(blobs.read(asked(b"one"), 3).unwrap(), b"one");
        assert!(blobs.read(asked(b"one"), 2).is_err());
        let longer = Asked {
            size: 4,
            ..asked(b"one")
        };
        assert!(blobs.find(longer).unwrap().is_none());
        assert_eq!(blobs.read(asked(b""), 0).unwrap(), b"");
    }
}
