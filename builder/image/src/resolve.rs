//! Looks up what names of images stand for.

use kiln_graph::{BlobDigest, Platform};

use crate::document::{Document, choose};
use crate::error::wrong_digest;
use crate::layout::{Found, Layout};
use crate::resolved::{Resolved, available, build_resolved};
use crate::{Client, ImageError, ImageName, Reference};

impl Client {
    /// What a name stands for on a platform.
    ///
    /// # Errors
    /// When it can't be had or understood.
    pub fn resolve(&self, name: &str, platform: &Platform) -> Result<Resolved, ImageError> {
        match name.parse()? {
            ImageName::Registry(reference) => {
                self.wait_for(self.resolve_remote(&reference, platform))
            }
            ImageName::Layout { directory, tag } => {
                Ok(self.kept_of(Layout::open(&directory)?.resolve(tag.as_deref(), platform)?))
            }
            ImageName::Archive { file, tag } => {
                Ok(self.kept_of(self.archive(&file)?.resolve(tag.as_deref(), platform)?))
            }
            ImageName::Daemon(name) => {
                let layout = Layout::open_tar(self.saved(&name)?.path())?;
                Ok(self.kept_of(layout.resolve(None, platform)?))
            }
        }
    }

    /// The attestations that lie beside an image (by its manifest's digest) of a layout or archive:
    /// their manifests.
    ///
    /// # Errors
    /// When the layout can't be read.
    pub fn attestations_beside(
        &self,
        name: &ImageName,
        image: &BlobDigest,
    ) -> Result<Vec<(BlobDigest, Vec<u8>)>, ImageError> {
        Ok(match name {
            ImageName::Layout { directory, .. } => Layout::open(directory)?.attestations(image),
            ImageName::Archive { file, .. } => self.archive(file)?.attestations(image),
            ImageName::Registry(_) | ImageName::Daemon(_) => Vec::new(),
        })
    }

    /// Keeps the documents of an image of a layout.
    fn kept_of(&self, found: Found) -> Resolved {
        for document in &found.documents {
            self.keep(document);
        }
        found.image
    }

    async fn resolve_remote(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, ImageError> {
        let image = reference.to_string();
        let (named, mut bytes) = self.kept_manifest(reference).await?;
        let mut digest = named;
        let unreadable = |reason| ImageError::Document {
            image: image.clone(),
            reason,
        };
        let manifest = match Document::read(&bytes).map_err(unreadable)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let chosen = choose(&index, platform).ok_or_else(|| ImageError::NoPlatform {
                    image: image.clone(),
                    wanted: platform.to_string(),
                    available: available(&index),
                })?;
                let pinned = Reference {
                    digest: Some(chosen.digest),
                    ..reference.clone()
                };
                (digest, bytes) = self.kept_manifest(&pinned).await?;
                match Document::read(&bytes).map_err(unreadable)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => {
                        return Err(unreadable("its index holds another index".to_owned()));
                    }
                }
            }
        };
        self.note_layers(&reference.pinned(digest), &manifest.layers);
        let config = self.small_blob(reference, &manifest.config.digest).await?;
        Ok(Resolved {
            named: Some(named),
            ..build_resolved(&image, digest, &manifest, &config)?
        })
    }

    /// A manifest; one that is named by its digest and was fetched before isn't asked for.
    async fn kept_manifest(
        &self,
        reference: &Reference,
    ) -> Result<(BlobDigest, Vec<u8>), ImageError> {
        if let Some(digest) = &reference.digest
            && let Some(bytes) = self.kept(digest)
        {
            return Ok((*digest, bytes));
        }
        let found = self.manifest(reference, &reference.manifest_name()).await?;
        self.keep(&found.1);
        Ok(found)
    }

    async fn small_blob(
        &self,
        reference: &Reference,
        digest: &BlobDigest,
    ) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.kept(digest) {
            return Ok(bytes);
        }
        let bytes = self
            .document(reference, &format!("blobs/{digest}"), &[])
            .await?;
        let actual = BlobDigest::of(&bytes);
        if actual != *digest {
            return Err(wrong_digest(
                reference,
                "its configuration",
                *digest,
                actual,
            ));
        }
        self.keep(&bytes);
        Ok(bytes)
    }
}
