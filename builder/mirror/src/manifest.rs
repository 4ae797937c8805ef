//! Manifests: the registry above has the last word on what a tag stands for.

use hyper::{Response, StatusCode};
use kiln_graph::BlobDigest;
use kiln_image::{ImageError, Manifest, Reference, media_type};
use kiln_tree::host;

use crate::answer::{self, Body, Refusal};
use crate::caller::Caller;
use crate::upstream::end;
use crate::{Access, Mirror};

/// A manifest, and what it is.
pub(crate) struct Served {
    pub(crate) digest: BlobDigest,
    media_type: String,
    bytes: Vec<u8>,
}

impl Served {
    pub(crate) fn answer(self, is_head: bool) -> Response<Body> {
        answer::manifest(&self.digest, &self.media_type, self.bytes, is_head)
    }
}

impl Mirror {
    /// A manifest by its tag or digest.
    pub(crate) fn manifest(
        &self,
        caller: &Caller,
        (name, ns): (&str, Option<&str>),
        reference: &str,
    ) -> Result<Served, Refusal> {
        let image = self.access.upstreams().image(name, ns, &end(reference));
        let image = image.ok_or_else(|| not_mirrored(name))?;
        match &self.access {
            Access::Upstream(_) => self.fetched(caller, &image),
            Access::Offline(_) => self.named(&image),
        }
    }

    /// What the registry above gives the caller; it is kept, for it says what the blobs are.
    fn fetched(&self, caller: &Caller, image: &Reference) -> Result<Served, Refusal> {
        let client = caller.client(image);
        let bytes = client
            .manifest_bytes(image)
            .map_err(|error| self.refused(image, error, client))?;
        let blob = self.store.blobs().put(&bytes)?;
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            client.note_layers(&image.pinned(blob.digest), &manifest.layers);
        }
        Ok(served(blob.digest, bytes))
    }

    fn refused(
        &self,
        image: &Reference,
        error: ImageError,
        client: &kiln_image::Client,
    ) -> Refusal {
        let mut refusal = Refusal::from(error);
        if refusal.status == StatusCode::UNAUTHORIZED {
            refusal.challenge = client.challenge(&image.host);
        }
        refusal
    }

    /// What the store has under a name, or of a named image.
    fn named(&self, image: &Reference) -> Result<Served, Refusal> {
        let unknown = || {
            let text = format!("there is no image {image} in the store");
            Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", text)
        };
        let digest = match image.digest {
            Some(digest) if self.is_named(image, &digest)? => digest,
            Some(_) => return Err(unknown()),
            None => {
                let record = self
                    .store
                    .images()
                    .get(&image.to_string())?
                    .ok_or_else(unknown)?;
                record.index.unwrap_or(record.digest)
            }
        };
        let blob = self.store.blobs().get(&digest)?.ok_or_else(unknown)?;
        let bytes = host::read(&blob.path).map_err(|_| unknown())?;
        Ok(served(digest, bytes))
    }

    /// Whether a named image of a repository needs a blob.
    pub(crate) fn is_named(&self, image: &Reference, digest: &BlobDigest) -> Result<bool, Refusal> {
        let records = self.store.images().all()?;
        let mut own = records
            .iter()
            .filter(|record| image.has_beside(&record.name));
        Ok(own.any(|record| record.blobs.contains(digest)))
    }
}

pub(crate) fn not_mirrored(name: &str) -> Refusal {
    Refusal::unknown(format!(
        "{name} is no repository of a registry that this mirror may ask: see --upstream"
    ))
}

fn served(digest: BlobDigest, bytes: Vec<u8>) -> Served {
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let own = document["mediaType"].as_str();
    let media_type = match (own, document.get("manifests")) {
        (Some(own), _) => own,
        (None, Some(_)) => media_type::INDEX,
        (None, None) => media_type::MANIFEST,
    };
    Served {
        digest,
        media_type: media_type.to_owned(),
        bytes,
    }
}
