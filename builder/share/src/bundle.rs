//! A cache in one OCI image manifest, for places that have blobs by their digests and nothing else. Format 1:
//! the manifest's configuration, of the media type `application/vnd.kiln.cache.v1+json`, is an object of
//! entries by their names; the manifest's layers are the blobs that they name, so that whoever copies or
//! cleans a layout keeps them. The cache is written when a build ends, and is read as a whole.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use kiln_graph::BlobDigest;
use kiln_image::{Descriptor, Manifest, media_type};
use kiln_tree::host;

use crate::{Remote, RemoteBlob, RemoteError};

const CONFIG_TYPE: &str = "application/vnd.kiln.cache.v1+json";
const BLOB_TYPE: &str = "application/vnd.kiln.cache.blob";
/// No document is larger, in bytes: so much is read into memory.
const MAX_DOCUMENT: u64 = 64 << 20;

/// A place that has blobs.
pub trait BlobPlace: Send + Sync {
    /// Writes a blob's bytes to `out`. One larger than `max` bytes, or that isn't what its digest says, is an
    /// error.
    ///
    /// # Errors
    /// When it can't be read.
    fn read(&self, digest: &BlobDigest, max: u64, out: &mut dyn Write) -> Result<(), RemoteError>;

    /// Takes a blob, unless it is there.
    ///
    /// # Errors
    /// When it can't be written.
    fn write(&self, digest: &BlobDigest, size: u64, from: &mut dyn Read)
    -> Result<(), RemoteError>;
}

/// A bundle to take results from. It is looked at once, at the first use.
#[derive(Debug)]
pub struct BundleSource<P> {
    place: P,
    name: String,
    top: BlobDigest,
    entries: OnceLock<Result<BTreeMap<String, String>, RemoteError>>,
}

impl<P: BlobPlace> BundleSource<P> {
    /// The bundle whose manifest has this digest; `name` is for messages.
    #[must_use]
    pub fn new(place: P, name: String, top: BlobDigest) -> Self {
        Self {
            place,
            name,
            top,
            entries: OnceLock::new(),
        }
    }

    fn document(&self, digest: &BlobDigest) -> Result<Vec<u8>, RemoteError> {
        let mut bytes = Vec::new();
        self.place.read(digest, MAX_DOCUMENT, &mut bytes)?;
        Ok(bytes)
    }

    fn read(&self) -> Result<BTreeMap<String, String>, RemoteError> {
        let top = self.document(&self.top)?;
        let manifest = serde_json::from_slice::<Manifest>(&top).ok();
        let config = manifest.map(|manifest| manifest.config);
        let Some(config) = config.filter(|config| config.media_type == CONFIG_TYPE) else {
            let text = "what is there is no cache of kiln's; caches of BuildKit's can't be read";
            return Err(RemoteError::Damaged(text.to_owned()));
        };
        let bytes = self.document(&config.digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| RemoteError::Damaged(format!("its entries: {error}")))
    }
}

impl<P: BlobPlace> Remote for BundleSource<P> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let entries = self.entries.get_or_init(|| self.read()).as_ref();
        let found = entries.map_err(Clone::clone)?.get(name);
        Ok(found.map(|text| text.clone().into_bytes()))
    }

    fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let text = "a bundle is written as a whole";
        Err(RemoteError::Unsupported(text.to_owned()))
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        self.place.read(digest, size, out)
    }
}

/// A bundle that a build's results go into.
#[derive(Debug)]
pub struct BundleTarget<P> {
    place: P,
    name: String,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    entries: BTreeMap<String, String>,
    blobs: BTreeMap<BlobDigest, u64>,
}

impl<P: BlobPlace> BundleTarget<P> {
    /// An empty bundle; `name` is for messages.
    #[must_use]
    pub fn new(place: P, name: String) -> Self {
        Self {
            place,
            name,
            held: Mutex::default(),
        }
    }

    /// Writes what names everything that was put. Gives the manifest's descriptor.
    ///
    /// # Errors
    /// When the place can't be written.
    pub fn finish(&self) -> Result<Descriptor, RemoteError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = document(&held.entries)?;
        let layers = held.blobs.iter();
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: self.write_document(CONFIG_TYPE, &entries)?,
            layers: layers
                .map(|(digest, size)| Descriptor::new(BLOB_TYPE, *digest, *size))
                .collect(),
            annotations: BTreeMap::new(),
        };
        self.write_document(media_type::MANIFEST, &document(&manifest)?)
    }

    fn write_document(&self, kind: &str, bytes: &[u8]) -> Result<Descriptor, RemoteError> {
        if bytes.len() as u64 > MAX_DOCUMENT {
            let text = "the cache has more results than one document may name: share fewer, as by mode=min";
            return Err(RemoteError::Unsupported(text.to_owned()));
        }
        let (digest, size) = (BlobDigest::of(bytes), bytes.len() as u64);
        self.place.write(&digest, size, &mut Cursor::new(bytes))?;
        Ok(Descriptor::new(kind, digest, size))
    }
}

fn document(value: &impl serde::Serialize) -> Result<Vec<u8>, RemoteError> {
    serde_json::to_vec(value).map_err(|error| RemoteError::local(&error))
}

impl<P: BlobPlace> Remote for BundleTarget<P> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(held.entries.get(name).map(|text| text.clone().into_bytes()))
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        // Places take a blob from one writer at a time.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        for blob in blobs {
            if held.blobs.contains_key(&blob.digest) {
                continue;
            }
            let mut file = host::open(blob.path).map_err(|error| RemoteError::local(&error))?;
            self.place.write(&blob.digest, blob.size, &mut file)?;
            held.blobs.insert(blob.digest, blob.size);
            sent += blob.size;
        }
        let text = String::from_utf8_lossy(entry).into_owned();
        held.entries.insert(name.to_owned(), text);
        Ok(sent + entry.len() as u64)
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        self.place.read(digest, size, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Blobs in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<BTreeMap<BlobDigest, Vec<u8>>>>);

    impl BlobPlace for Memory {
        fn read(
            &self,
            digest: &BlobDigest,
            max: u64,
            out: &mut dyn Write,
        ) -> Result<(), RemoteError> {
            let missing = || RemoteError::Damaged(format!("{digest} is not there"));
            let blobs = self.0.lock().unwrap();
            let bytes = blobs.get(digest).ok_or_else(missing)?;
            assert!(bytes.len() as u64 <= max);
            out.write_all(bytes)
                .map_err(|error| RemoteError::local(&error))
        }

        fn write(
            &self,
            digest: &BlobDigest,
            size: u64,
            from: &mut dyn Read,
        ) -> Result<(), RemoteError> {
            let mut bytes = Vec::new();
            _ = from.read_to_end(&mut bytes).unwrap();
            assert_eq!(
                (BlobDigest::of(&bytes), bytes.len() as u64),
                (*digest, size)
            );
            self.0.lock().unwrap().insert(*digest, bytes);
            Ok(())
        }
    }

    #[test]
    fn what_was_put_is_there_when_the_bundle_is_finished() {
        let file = tempfile::NamedTempFile::new().unwrap();
        host::write(file.path(), b"content").unwrap();
        let blob = RemoteBlob {
            digest: BlobDigest::of(b"content"),
            size: 7,
            path: file.path(),
        };
        let place = Memory::default();
        let target = BundleTarget::new(place.clone(), "here".to_owned());
        assert_eq!(target.put("a", b"1", &[blob]), Ok(8));
        assert_eq!(target.put("b", b"2", &[blob]), Ok(1), "sent once");
        let top = target.finish().unwrap();
        let source = BundleSource::new(place.clone(), "here".to_owned(), top.digest);
        assert_eq!(source.entry("a"), Ok(Some(b"1".to_vec())));
        assert_eq!(source.entry("c"), Ok(None));
        let mut out = Vec::new();
        source.blob(&blob.digest, 7, &mut out).unwrap();
        assert_eq!(out, b"content");
        let manifest: Manifest =
            serde_json::from_slice(&source.document(&top.digest).unwrap()).unwrap();
        assert_eq!(
            manifest.layers.len(),
            1,
            "layouts are copied with their blobs"
        );
        assert_eq!(top.size, place.0.lock().unwrap()[&top.digest].len() as u64);
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let place = Memory::default();
        let target = BundleTarget::new(place.clone(), "here".to_owned());
        let entry = vec![b'x'; usize::try_from(MAX_DOCUMENT).unwrap()];
        assert!(target.put("a", &entry, &[]).is_ok());
        let refused = target.finish().unwrap_err();
        assert!(matches!(refused, RemoteError::Unsupported(_)), "{refused}");
        assert!(place.0.lock().unwrap().is_empty());
    }

    #[test]
    fn other_things_are_no_caches() {
        let place = Memory::default();
        let put = |text: &str| {
            let digest = BlobDigest::of(text.as_bytes());
            place
                .0
                .lock()
                .unwrap()
                .insert(digest, text.as_bytes().to_vec());
            digest
        };
        let empty = put("{}");
        let manifest = |kind: &str, config: BlobDigest| {
            put(&format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"m\",\"config\":{{\"mediaType\":\"{kind}\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]}}"
            ))
        };
        let read = |top| BundleSource::new(place.clone(), String::new(), top).entry("a");
        assert_eq!(read(manifest(CONFIG_TYPE, empty)), Ok(None));
        let buildkit = "application/vnd.buildkit.cacheconfig.v0";
        let missing = BlobDigest::of(b"missing");
        for top in [
            empty,
            missing,
            put("nothing"),
            manifest(buildkit, empty),
            manifest(CONFIG_TYPE, put("[]")),
            manifest(CONFIG_TYPE, missing),
        ] {
            assert!(matches!(read(top), Err(RemoteError::Damaged(_))), "{top}");
        }
    }
}
