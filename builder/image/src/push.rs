//! Sends images to registries (OCI distribution specification, "Push").

use std::path::PathBuf;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_graph::BlobDigest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode};
use tokio_util::io::ReaderStream;

use crate::client::{Ask, Client, Rights};
use crate::{ImageError, Reference};

/// How many blobs are sent at once.
const AT_ONCE: usize = 5;
/// How often an image is sent again when others send the same blobs at once.
const AGAIN: u32 = 3;

/// A blob to be sent, if the registry doesn't have it.
pub struct PushBlob<'a> {
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// Another repository of the same registry that may have it.
    pub mount_from: Option<String>,
    /// Gives the file that holds it; called only when it must be sent.
    pub file: Box<dyn Fn() -> Result<PathBuf, ImageError> + Send + Sync + 'a>,
}

impl std::fmt::Debug for PushBlob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushBlob")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// An image to be sent.
#[derive(Debug)]
pub struct PushImage<'a> {
    /// Layers and configurations.
    pub blobs: Vec<PushBlob<'a>>,
    /// Manifests that an index names, to be sent before it: bytes and media type.
    pub manifests: Vec<(Vec<u8>, String)>,
    /// The manifest or index itself: bytes and media type.
    pub top: (Vec<u8>, String),
}

impl Client {
    /// Sends an image. `progress` is told of each blob when it is there.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't take it.
    pub fn push(
        &self,
        reference: &Reference,
        image: &PushImage<'_>,
        progress: &(dyn Fn(&BlobDigest, u64) + Sync),
    ) -> Result<(), ImageError> {
        self.wait_for(async {
            for attempt in 0..AGAIN {
                match self.push_once(reference, image, progress).await {
                    Err(error) if is_race(&error) => self.wait(attempt, None).await,
                    other => return other,
                }
            }
            self.push_once(reference, image, progress).await
        })
    }

    async fn push_once(
        &self,
        reference: &Reference,
        image: &PushImage<'_>,
        progress: &(dyn Fn(&BlobDigest, u64) + Sync),
    ) -> Result<(), ImageError> {
        let send = |blob| self.push_blob(reference, blob, progress);
        stream::iter(&image.blobs)
            .map(send)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for (bytes, media_type) in &image.manifests {
            let digest = crate::archive::digest_of(bytes).to_string();
            self.push_manifest(reference, &digest, bytes, media_type)
                .await?;
        }
        let (bytes, media_type) = &image.top;
        let name = match &reference.tag {
            Some(tag) => tag.clone(),
            None => crate::archive::digest_of(bytes).to_string(),
        };
        self.push_manifest(reference, &name, bytes, media_type)
            .await
    }

    async fn push_manifest(
        &self,
        reference: &Reference,
        name: &str,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<(), ImageError> {
        let body = || Ok(reqwest::Body::from(bytes.to_vec()));
        let mut ask = Ask::new(
            Method::PUT,
            format!("{}/manifests/{name}", self.home(reference)),
        );
        ask.headers
            .push((CONTENT_TYPE.as_str(), media_type.to_owned()));
        ask.rights = Rights::Push;
        ask.body = Some(&body);
        self.send(reference, &ask).await.map(drop)
    }

    async fn push_blob(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        progress: &(dyn Fn(&BlobDigest, u64) + Sync),
    ) -> Result<(), ImageError> {
        let base = self.home(reference);
        let mut head = Ask::new(Method::HEAD, format!("{base}/blobs/{}", blob.digest));
        head.rights = Rights::Push;
        match self.send(reference, &head).await {
            Ok(_) => {
                progress(&blob.digest, 0);
                return Ok(());
            }
            Err(ImageError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mount = blob
            .mount_from
            .as_ref()
            .map(|from| format!("?mount={}&from={from}", blob.digest));
        let url = format!("{base}/blobs/uploads/{}", mount.unwrap_or_default());
        let mut start = Ask::new(Method::POST, url);
        start
            .headers
            .push((CONTENT_LENGTH.as_str(), "0".to_owned()));
        start.rights = Rights::Push;
        let started = self.send(reference, &start).await?;
        if started.status() != StatusCode::CREATED {
            self.upload(reference, blob, &started).await?;
        }
        progress(&blob.digest, blob.size);
        Ok(())
    }

    async fn upload(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        started: &Response,
    ) -> Result<(), ImageError> {
        let location = upload_url(reference, started)?;
        let join = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{join}digest={}", blob.digest);
        // It may have to be fetched by this very client, which blocks.
        let path = tokio::task::block_in_place(&blob.file)?;
        let body = || -> std::io::Result<reqwest::Body> {
            let file = tokio::fs::File::from_std(std::fs::File::open(&path)?);
            Ok(reqwest::Body::wrap_stream(ReaderStream::with_capacity(
                file,
                256 * 1024,
            )))
        };
        let mut ask = Ask::new(Method::PUT, url);
        ask.headers
            .push((CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()));
        ask.headers
            .push((CONTENT_LENGTH.as_str(), blob.size.to_string()));
        ask.rights = Rights::Push;
        ask.body = Some(&body);
        self.send(reference, &ask).await.map(drop)
    }
}

/// Whether a registry doesn't find a blob that it has just said it has: so does Docker's for a
/// moment while another sends the same one.
fn is_race(error: &ImageError) -> bool {
    matches!(error, ImageError::Answer { body, .. } if body.contains("BLOB_UNKNOWN"))
}

/// Where to send a blob: the `Location` of the answer, which may be relative.
fn upload_url(reference: &Reference, answer: &Response) -> Result<String, ImageError> {
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let joined = location.and_then(|location| answer.url().join(location).ok());
    joined
        .map(String::from)
        .ok_or_else(|| ImageError::Document {
            image: reference.to_string(),
            reason: "the registry doesn't say where to send a blob".to_owned(),
        })
}
