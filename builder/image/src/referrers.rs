//! What refers to a manifest: signatures, attestations (OCI distribution specification 1.1,
//! "Listing Referrers"). Where a registry doesn't list them, clients keep the list as an index under
//! the tag `sha256-HEX` ("Unavailable Referrers API").

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};

use crate::answer_body::read_document;
use crate::client::Client;
use crate::document::media_type;
use crate::error::wrong_digest;
use crate::push::Progress;
use crate::repository::next_page;
use crate::request::Ask;
use crate::request::TRIES;
use crate::{ImageError, PushImage, Reference};

/// Lists are followed over so many pages.
const MAX_PAGES: usize = 100;
/// No manifest has more referrers; a list that never ends must.
const MAX_REFERRERS: usize = 10_000;

/// A manifest that refers to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The manifest's media type.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Referrer>,
}

impl Client {
    /// What refers to a manifest, listed by the registry or by other clients.
    ///
    /// # Errors
    /// When the registry can't be reached or its list can't be read.
    pub fn referrers(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
    ) -> Result<Vec<Referrer>, ImageError> {
        self.wait_for(self.listed(repository, subject, TRIES))
    }

    /// The artifacts of one type that refer to an image, which is named by its digest. The registry
    /// is asked once: whoever asks can do without.
    ///
    /// # Errors
    /// When the registry can't be reached or its list can't be read.
    pub fn artifacts_of(
        &self,
        image: &Reference,
        artifact_type: &str,
    ) -> Result<Vec<Referrer>, ImageError> {
        let Some(subject) = &image.digest else {
            return Ok(Vec::new());
        };
        let listed = self.wait_for(self.listed(image, subject, 1))?;
        let fits = |one: &Referrer| one.artifact_type.as_deref() == Some(artifact_type);
        Ok(listed.into_iter().filter(fits).collect())
    }

    /// Sends a manifest that refers to another. Where the registry lists no referrers, it is added
    /// to the list under a tag if `with_tag`, else nothing is sent. Whether it was.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't take it.
    pub fn push_referrer(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        referrer: &Referrer,
        image: &PushImage<'_>,
        with_tag: bool,
        progress: Progress<'_>,
    ) -> Result<bool, ImageError> {
        // Nobody waits for what nobody asked for.
        let tries = if with_tag { TRIES } else { 1 };
        let listed = self.wait_for(self.list(repository, subject, tries))?;
        if listed.is_none() && !with_tag {
            return Ok(false);
        }
        self.push(&repository.pinned(referrer.digest), image, progress)?;
        if listed.is_none() {
            self.wait_for(self.add_to_tagged_list(repository, subject, referrer))?;
        }
        Ok(true)
    }

    /// Deletes a manifest that refers to another, and takes it out of the list under a tag where there is
    /// one.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't allow it.
    pub fn delete_referrer(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        referrer: &BlobDigest,
    ) -> Result<(), ImageError> {
        _ = self.delete_manifest(repository, referrer)?;
        self.wait_for(async {
            let mut list = self.tagged_list(repository, subject, TRIES).await?;
            let before = list.manifests.len();
            list.manifests.retain(|one| one.digest != *referrer);
            if list.manifests.len() == before {
                return Ok(());
            }
            self.push_list(repository, subject, list).await
        })
    }

    /// A small blob of a repository, such as a signature.
    ///
    /// # Errors
    /// When it can't be had, or isn't what its digest says.
    pub fn small_document(
        &self,
        repository: &Reference,
        digest: &BlobDigest,
        is_manifest: bool,
    ) -> Result<Vec<u8>, ImageError> {
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let path = format!("{kind}/{digest}");
        let bytes = self.wait_for(self.document(repository, &path, &[accept()]))?;
        let actual = BlobDigest::of(&bytes);
        if actual != *digest {
            return Err(wrong_digest(repository, "a document", *digest, actual));
        }
        Ok(bytes)
    }

    fn ask(&self, repository: &Reference, path: &str) -> Ask<'static> {
        let mut ask = Ask::new(Method::GET, format!("{}/{path}", self.home(repository)));
        ask.headers.push(accept());
        ask
    }

    /// What refers to a manifest: as the registry lists it, else as the list under a tag does.
    async fn listed(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        tries: u32,
    ) -> Result<Vec<Referrer>, ImageError> {
        match self.list(repository, subject, tries).await? {
            Some(listed) => Ok(listed),
            None => Ok(self
                .tagged_list(repository, subject, tries)
                .await?
                .manifests),
        }
    }

    /// What refers to a manifest, as the registry lists it; nothing when it lists no referrers.
    async fn list(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        tries: u32,
    ) -> Result<Option<Vec<Referrer>>, ImageError> {
        let mut ask = self.ask(repository, &format!("referrers/{subject}"));
        ask.tries = tries;
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = match self.send(repository, &ask).await {
                Ok(answer) => answer,
                // Some refuse what they don't know.
                Err(ImageError::NotFound { .. } | ImageError::Denied { .. }) => return Ok(None),
                Err(ImageError::Answer { status, .. }) if status < 500 => return Ok(None),
                Err(error) => return Err(error),
            };
            if !is_index(&answer) {
                return Ok(None);
            }
            let next = next_page(&answer);
            let bytes = read_document(repository, answer).await?;
            let list = serde_json::from_slice::<List>(&bytes).ok();
            let Some(list) = list.filter(|list| list.schema_version == 2) else {
                return Err(broken(
                    repository,
                    "its list of referrers can't be understood",
                ));
            };
            all.extend(list.manifests);
            if all.len() > MAX_REFERRERS {
                return Err(broken(repository, "its list of referrers has no end"));
            }
            let Some(next) = next else { break };
            ask.url = next;
        }
        Ok(Some(all))
    }

    async fn tagged_list(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        tries: u32,
    ) -> Result<List, ImageError> {
        let mut ask = self.ask(repository, &format!("manifests/{}", list_tag(subject)));
        ask.tries = tries;
        match self.send(repository, &ask).await {
            Ok(answer) => serde_json::from_slice(&read_document(repository, answer).await?)
                .map_err(|_| broken(repository, "its list of referrers can't be understood")),
            Err(ImageError::NotFound { .. }) => Ok(List {
                schema_version: 2,
                media_type: media_type::INDEX.to_owned(),
                manifests: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn add_to_tagged_list(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        referrer: &Referrer,
    ) -> Result<(), ImageError> {
        let mut list = self.tagged_list(repository, subject, TRIES).await?;
        if list
            .manifests
            .iter()
            .any(|one| one.digest == referrer.digest)
        {
            return Ok(());
        }
        list.manifests.push(referrer.clone());
        self.push_list(repository, subject, list).await
    }

    async fn push_list(
        &self,
        repository: &Reference,
        subject: &BlobDigest,
        mut list: List,
    ) -> Result<(), ImageError> {
        list.media_type = media_type::INDEX.to_owned();
        let bytes =
            serde_json::to_vec(&list).map_err(|error| broken(repository, &error.to_string()))?;
        self.push_manifest(repository, &list_tag(subject), &bytes, media_type::INDEX)
            .await
    }
}

/// Whether an answer is an index: servers that know no referrers may answer anything.
fn is_index(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with(media_type::INDEX)
}

/// What documents may be.
fn accept() -> (&'static str, String) {
    let kinds = [media_type::INDEX, media_type::MANIFEST, "*/*"];
    (ACCEPT.as_str(), kinds.join(", "))
}

/// The tag under which clients keep the list of what refers to a manifest.
fn list_tag(subject: &BlobDigest) -> String {
    format!("sha256-{}", subject.hex())
}

fn broken(repository: &Reference, reason: &str) -> ImageError {
    ImageError::Document {
        image: repository.to_string(),
        reason: reason.to_owned(),
    }
}
