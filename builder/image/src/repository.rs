//! What a repository holds, and its removal (OCI distribution specification, "Content Discovery"
//! and "Content Management"). Mirrors are not asked: they may be old.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_graph::{BlobDigest, ImageConfig};
use reqwest::header::{ACCEPT, LINK};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

use crate::client::Client;
use crate::document::{Document, Manifest, media_type};
use crate::error::unreachable;
use crate::request::{Ask, Rights};
use crate::{ImageError, Reference};

/// No repository has more tags; a list that never ends must.
const MAX_TAGS: usize = 1_000_000;
/// How many tags are looked at once.
const AT_ONCE: usize = 8;
/// The annotation for a manifest's time (OCI image specification, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedManifest {
    /// The tag.
    pub tag: String,
    /// The manifest or index.
    pub digest: BlobDigest,
    /// The manifests that an index names.
    pub parts: Vec<BlobDigest>,
    /// When it was made, as it says itself (RFC 3339); the latest one of an index.
    pub created: Option<String>,
}

impl Client {
    /// What all tags of a repository stand for. Tags that go meanwhile are left out.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't say.
    pub fn tagged(&self, repository: &Reference) -> Result<Vec<TaggedManifest>, ImageError> {
        self.wait_for(async {
            let tags = self.tags(repository).await?;
            let look = |tag: String| async move {
                match self.look_at(repository, tag).await {
                    Err(ImageError::NotFound { .. }) => Ok(None),
                    other => other.map(Some),
                }
            };
            let looked = stream::iter(tags).map(look).buffered(AT_ONCE);
            let found: Vec<Option<TaggedManifest>> = looked.try_collect().await?;
            Ok(found.into_iter().flatten().collect())
        })
    }

    /// Deletes a manifest, and with it all tags that stand for it; whether it was there.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't allow it.
    pub fn delete_manifest(
        &self,
        repository: &Reference,
        digest: &BlobDigest,
    ) -> Result<bool, ImageError> {
        let url = format!("{}/manifests/{digest}", self.home(repository));
        let ask = Ask {
            rights: Rights::Delete,
            ..Ask::new(Method::DELETE, url)
        };
        match self.wait_for(self.send(repository, &ask)) {
            Ok(_) => Ok(true),
            Err(ImageError::NotFound { .. }) => Ok(false),
            Err(ImageError::Answer {
                image,
                host,
                status,
                body,
            }) if status == StatusCode::METHOD_NOT_ALLOWED || body.contains("UNSUPPORTED") => {
                Err(ImageError::NoDeletion { image, host })
            }
            Err(error) => Err(error),
        }
    }

    async fn tags(&self, repository: &Reference) -> Result<Vec<String>, ImageError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(format!("{}/tags/list?n=1000", self.home(repository)));
        while let Some(url) = next {
            if tags.len() > MAX_TAGS {
                let reason = format!("its list of tags is longer than {MAX_TAGS}");
                let image = repository.to_string();
                return Err(ImageError::Document { image, reason });
            }
            let ask = Ask::new(Method::GET, url);
            let answer = self.send(repository, &ask).await?;
            next = next_page(&answer);
            let page: Page = answer
                .json()
                .await
                .map_err(|error| unreachable(repository, &error))?;
            let own = page.tags.unwrap_or_default();
            if own.is_empty() {
                break;
            }
            tags.extend(own);
        }
        Ok(tags)
    }

    async fn look_at(
        &self,
        repository: &Reference,
        tag: String,
    ) -> Result<TaggedManifest, ImageError> {
        let (digest, document) = self.read_manifest(repository, &tag).await?;
        match document {
            Document::Manifest(manifest) => Ok(TaggedManifest {
                created: self.created(repository, &manifest).await?,
                parts: Vec::new(),
                tag,
                digest,
            }),
            Document::Index(index) => {
                let parts: Vec<BlobDigest> =
                    index.manifests.iter().map(|part| part.digest).collect();
                let mut created = index.annotations.get(CREATED).cloned();
                for part in index.manifests.iter().filter(|part| !part.is_attestation()) {
                    let read = self
                        .read_manifest(repository, &part.digest.to_string())
                        .await;
                    if let Ok((_, Document::Manifest(manifest))) = read {
                        created = created.max(self.created(repository, &manifest).await?);
                    }
                }
                Ok(TaggedManifest {
                    tag,
                    digest,
                    parts,
                    created,
                })
            }
        }
    }

    async fn read_manifest(
        &self,
        repository: &Reference,
        name: &str,
    ) -> Result<(BlobDigest, Document), ImageError> {
        let accept = [
            media_type::INDEX,
            media_type::MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
        ];
        let mut ask = Ask::new(
            Method::GET,
            format!("{}/manifests/{name}", self.home(repository)),
        );
        ask.headers.push((ACCEPT.as_str(), accept.join(", ")));
        let bytes = self.bytes(repository, &ask).await?;
        let document = Document::read(&bytes).map_err(|reason| ImageError::Document {
            image: format!("{repository} {name}"),
            reason,
        })?;
        Ok((BlobDigest::of(&bytes), document))
    }

    /// When an image was made: what its annotation says, else its configuration.
    async fn created(
        &self,
        repository: &Reference,
        manifest: &Manifest,
    ) -> Result<Option<String>, ImageError> {
        if let Some(created) = manifest.annotations.get(CREATED) {
            return Ok(Some(created.clone()));
        }
        let url = format!("{}/blobs/{}", self.home(repository), manifest.config.digest);
        match self.bytes(repository, &Ask::new(Method::GET, url)).await {
            Ok(bytes) => {
                let config = serde_json::from_slice::<ImageConfig>(&bytes);
                Ok(config.ok().and_then(|config| config.created))
            }
            Err(ImageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn bytes(&self, repository: &Reference, ask: &Ask<'_>) -> Result<Vec<u8>, ImageError> {
        let answer = self.send(repository, ask).await?;
        let bytes = answer.bytes().await;
        let bytes = bytes.map_err(|error| unreachable(repository, &error))?;
        Ok(bytes.to_vec())
    }
}

/// The address of a list's next page (RFC 8288, `rel="next"`).
pub(crate) fn next_page(answer: &Response) -> Option<String> {
    let links = answer.headers().get(LINK)?.to_str().ok()?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let (path, _) = next.trim().strip_prefix('<')?.split_once('>')?;
    let next = answer.url().join(path).ok()?;
    // Credentials go with it, so it must be the same server.
    (next.origin() == answer.url().origin()).then(|| next.into())
}
