//! Blobs: out of the store, rebuilt from a difference, or fetched, once the registry above has said
//! that the caller may have them.

use hyper::StatusCode;
use kiln_cache::Blob;
use kiln_graph::{BlobDigest, Digest, ImageConfig, ImageLayer, StepKey};
use kiln_image::{Client, Manifest, Reference};

use crate::answer::Refusal;
use crate::caller::Caller;
use crate::manifest::not_mirrored;
use crate::{Access, Mirror};

impl Mirror {
    pub(crate) fn blob(
        &self,
        caller: &Caller,
        (name, ns): (&str, Option<&str>),
        digest: &BlobDigest,
    ) -> Result<Blob, Refusal> {
        let image = self
            .access
            .upstreams()
            .image(name, ns, &format!("@{digest}"));
        let image = image.ok_or_else(|| not_mirrored(name))?;
        match &self.access {
            Access::Offline(_) => self.stored(&image, digest),
            Access::Upstream(_) => {
                let size = caller.client(&image).blob_size(&image, digest)?;
                if let Some(blob) = self.store.blobs().get(digest)? {
                    return Ok(blob);
                }
                let key = StepKey(Digest::of(format!("mirror {digest}").as_bytes()));
                let _alone = self.store.lock_step(&key, &|| self.store.is_stopped())?;
                match self.store.blobs().get(digest)? {
                    Some(blob) => Ok(blob),
                    None => self.fetched_blob(caller, &image, digest, size),
                }
            }
        }
    }

    fn stored(&self, image: &Reference, digest: &BlobDigest) -> Result<Blob, Refusal> {
        let here = match self.is_named(image, digest)? {
            true => self.store.blobs().get(digest)?,
            false => None,
        };
        here.ok_or_else(|| {
            let text = format!("blob {digest} is not in the store");
            Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", text)
        })
    }

    /// Brings a blob into the store: a layer of an image that was asked for by a difference if there
    /// is one.
    fn fetched_blob(
        &self,
        caller: &Caller,
        image: &Reference,
        digest: &BlobDigest,
        size: u64,
    ) -> Result<Blob, Refusal> {
        let client = caller.client(image);
        if let Some(whole) = client.image_with_layer(digest)
            && let Some(layer) = self.layer(client, &whole, digest)
        {
            let name = whole.to_string();
            return Ok(caller.trees.blob(&layer, &name, &*self.events)?);
        }
        let mut writer = self.store.blobs().writer()?;
        client.fetch_blob(&image.to_string(), digest, size, &mut writer, &|_| {})?;
        Ok(writer.commit(Some(*digest))?)
    }

    /// A layer of an image, with the digest of its tar, which the configuration has.
    fn layer(&self, client: &Client, image: &Reference, blob: &BlobDigest) -> Option<ImageLayer> {
        let manifest: Manifest = self.document(&image.digest?)?;
        let config = match self.document::<ImageConfig>(&manifest.config.digest) {
            Some(config) => config,
            None => {
                let bytes = client
                    .small_document(image, &manifest.config.digest, false)
                    .ok()?;
                _ = self.store.blobs().put(&bytes).ok()?;
                serde_json::from_slice(&bytes).ok()?
            }
        };
        let at = manifest
            .layers
            .iter()
            .position(|layer| layer.digest == *blob)?;
        Some(manifest.layers[at].image_layer(*config.rootfs.diff_ids.get(at)?))
    }

    fn document<T: serde::de::DeserializeOwned>(&self, digest: &BlobDigest) -> Option<T> {
        kiln_execute::document(&self.store, digest).ok().flatten()
    }
}
