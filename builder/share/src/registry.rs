//! A remote in a registry: each entry is a tag of one repository, an OCI manifest that carries
//! the entry as an annotation and names its blobs as layers, so that the registry keeps them.

use std::collections::BTreeMap;
use std::io::Write;

use kiln_graph::{BlobDigest, Digest};
use kiln_image::{
    Client, Descriptor, ImageError, Manifest, PushBlob, PushImage, Reference, media_type,
};
use kiln_tree::host;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Remote, RemoteBlob, RemoteError};

const ENTRY: &str = "dev.kiln.cache.entry";
const CREATED: &str = "org.opencontainers.image.created";
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const BLOB_TYPE: &str = "application/vnd.kiln.cache.blob";
/// In characters (OCI distribution specification, "Pulling manifests"); a prefix that leaves no
/// room for a name is hashed.
const MAX_TAG: usize = 128;

/// A repository that stores share.
#[derive(Clone, Debug)]
pub struct RegistryRemote {
    client: Client,
    reference: Reference,
}

impl RegistryRemote {
    /// The remote in a repository; tags begin with the reference's own tag.
    #[must_use]
    pub fn new(client: Client, reference: Reference) -> Self {
        Self { client, reference }
    }

    fn tagged(&self, name: &str) -> Reference {
        let prefix = self.reference.tag.clone().unwrap_or_default();
        let tag = format!("{prefix}-{name}");
        let mut reference = self.reference.clone();
        reference.tag = Some(match tag.len() > MAX_TAG {
            true => format!(
                "{}-{name}",
                &Digest::of(prefix.as_bytes()).to_string()[..32]
            ),
            false => tag,
        });
        reference.digest = None;
        reference
    }
}

impl Remote for RegistryRemote {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn repository(&self) -> Option<String> {
        Some(self.reference.to_string())
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let bytes = match self.client.manifest_bytes(&self.tagged(name)) {
            Ok(bytes) => bytes,
            Err(ImageError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| damaged(name, &error))?;
        Ok(manifest
            .annotations
            .get(ENTRY)
            .map(|text| text.clone().into_bytes()))
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let empty = tempfile::NamedTempFile::new().map_err(|error| RemoteError::local(&error))?;
        host::write(empty.path(), EMPTY).map_err(|error| RemoteError::local(&error))?;
        let config = RemoteBlob {
            digest: BlobDigest::of(EMPTY),
            size: EMPTY.len() as u64,
            path: empty.path(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: describe(EMPTY_TYPE, &config),
            layers: blobs.iter().map(|blob| describe(BLOB_TYPE, blob)).collect(),
            annotations: annotations(entry),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| RemoteError::local(&error))?;
        let sent = std::sync::atomic::AtomicU64::new(bytes.len() as u64);
        let image = PushImage {
            blobs: blobs.iter().chain([&config]).map(push_blob).collect(),
            manifests: Vec::new(),
            top: (bytes, media_type::MANIFEST.to_owned()),
        };
        let count = |blob: &kiln_image::Sent| {
            if blob.finished {
                _ = sent.fetch_add(blob.bytes, std::sync::atomic::Ordering::Relaxed);
            }
        };
        self.client.push(&self.tagged(name), &image, &count)?;
        Ok(sent.into_inner())
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let name = self.reference.to_string();
        let fetched = self.client.fetch_blob(&name, digest, size, out, &|_| {});
        fetched.map_err(RemoteError::from)
    }
}

fn damaged(name: &str, error: &serde_json::Error) -> RemoteError {
    RemoteError::Damaged(format!("{name}: {error}"))
}

/// The entry, and when it was written, for those who clean up.
fn annotations(entry: &[u8]) -> BTreeMap<String, String> {
    let entry = String::from_utf8_lossy(entry).into_owned();
    let now = OffsetDateTime::now_utc().replace_nanosecond(0);
    let now = now.ok().and_then(|now| now.format(&Rfc3339).ok());
    let created = now.map(|now| (CREATED.to_owned(), now));
    created
        .into_iter()
        .chain([(ENTRY.to_owned(), entry)])
        .collect()
}

fn describe(media_type: &str, blob: &RemoteBlob<'_>) -> Descriptor {
    Descriptor::new(media_type, blob.digest, blob.size)
}

fn push_blob<'a>(blob: &RemoteBlob<'a>) -> PushBlob<'a> {
    let path = blob.path.to_owned();
    PushBlob {
        digest: blob.digest,
        size: blob.size,
        mount_from: None,
        file: Box::new(move || Ok(path.clone())),
    }
}
