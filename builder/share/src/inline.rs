//! A cache that an image carries: the entries of the steps whose changes are layers of their own,
//! as the member `dev.kiln.cache.v1` of the image's configuration, an object of entries by their
//! names. Their files are the image's layers, so that nothing is stored twice.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;

use kiln_graph::{BlobDigest, ImageConfig};
use kiln_image::{Client, Descriptor, ImageError, Index, Manifest, Reference};

use crate::{Remote, RemoteBlob, RemoteError};

/// No configuration is larger, in bytes: so much is read into memory.
const MAX_CONFIG: u64 = 64 << 20;

/// The cache that an image in a registry carries. The image is looked at once, at the first use.
#[derive(Debug)]
pub struct InlineRemote {
    client: Client,
    image: Reference,
    entries: OnceLock<Result<BTreeMap<String, String>, RemoteError>>,
}

impl InlineRemote {
    /// The cache of an image, which need not be there.
    #[must_use]
    pub fn new(client: Client, image: Reference) -> Self {
        Self {
            client,
            image,
            entries: OnceLock::new(),
        }
    }

    /// The entries of all the images that the name stands for.
    fn read(&self) -> Result<BTreeMap<String, String>, RemoteError> {
        let top = match self.client.manifest_bytes(&self.image) {
            Ok(top) => top,
            Err(ImageError::NotFound { .. }) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let Ok(index) = serde_json::from_slice::<Index>(&top) else {
            return self.entries_of(&top);
        };
        let images = index
            .manifests
            .iter()
            .filter(|image| !image.is_attestation());
        let mut entries = BTreeMap::new();
        for image in images {
            let mut reference = self.image.clone();
            reference.digest = Some(image.digest);
            let bytes = self.client.manifest_bytes(&reference);
            entries.extend(self.entries_of(&bytes?)?);
        }
        Ok(entries)
    }

    fn entries_of(&self, manifest: &[u8]) -> Result<BTreeMap<String, String>, RemoteError> {
        let manifest: Manifest = serde_json::from_slice(manifest)
            .map_err(|error| RemoteError::Damaged(format!("its manifest: {error}")))?;
        let Descriptor { digest, size, .. } = manifest.config;
        if size > MAX_CONFIG {
            let text = "its configuration is larger than any may be";
            return Err(RemoteError::Damaged(text.to_owned()));
        }
        let mut bytes = Vec::new();
        self.blob(&digest, size, &mut bytes)?;
        // What is no configuration (an artifact's, say) carries nothing.
        let config = serde_json::from_slice::<ImageConfig>(&bytes);
        Ok(config.map(|config| config.inline_cache).unwrap_or_default())
    }
}

impl Remote for InlineRemote {
    fn name(&self) -> String {
        self.image.to_string()
    }

    fn repository(&self) -> Option<String> {
        Some(self.image.to_string())
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let entries = self.entries.get_or_init(|| self.read()).as_ref();
        let found = entries.map_err(Clone::clone)?.get(name);
        Ok(found.map(|text| text.clone().into_bytes()))
    }

    fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let text = "an image's own cache is written with the image only";
        Err(RemoteError::Unsupported(text.to_owned()))
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let name = self.image.to_string();
        let fetched = self.client.fetch_blob(&name, digest, size, out, &|_| {});
        fetched.map_err(RemoteError::from)
    }
}
