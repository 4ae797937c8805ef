//! Sends images to registries (OCI distribution specification, "Push").

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_graph::BlobDigest;
use kiln_tree::host;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode};
use tokio_util::io::ReaderStream;

use crate::blocking::on_own_thread;
use crate::client::Client;
use crate::push_trust::{Trust, is_race, may_be_begun_anew};
use crate::request::{Ask, Rights};
use crate::{ImageError, Reference};

/// How many blobs are sent at once.
const AT_ONCE: usize = 5;
/// How often an image is sent in all while the registry doesn't find a blob that it said it has.
const ROUNDS: u32 = 4;
/// How often an upload is begun in all.
const UPLOADS: u32 = 5;

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

impl PushBlob<'_> {
    fn sent(&self, bytes: u64, finished: bool) -> Sent {
        Sent {
            digest: self.digest,
            bytes: bytes.min(self.size),
            size: self.size,
            finished,
        }
    }
}

/// A blob on its way.
struct Sending<'a> {
    blob: &'a PushBlob<'a>,
    path: &'a Path,
    progress: Progress<'a>,
}

impl std::fmt::Debug for PushBlob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushBlob")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// How far a blob has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The blob.
    pub digest: BlobDigest,
    /// Its bytes that were handed over so far; 0 at the end when the registry had it.
    pub bytes: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Whether this is the last word of it.
    pub finished: bool,
}

/// Is told how far blobs have been sent.
pub(crate) type Progress<'a> = &'a (dyn Fn(&Sent) + Sync);

/// How often a blob on its way is told of.
const TICK: Duration = Duration::from_millis(200);

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
    /// Sends an image. `progress` is told of each blob on its way, and when it is there.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't take it.
    pub fn push(
        &self,
        reference: &Reference,
        image: &PushImage<'_>,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        self.wait_for(async {
            for round in 0..ROUNDS - 1 {
                match self
                    .push_once(reference, image, Trust::in_round(round), progress)
                    .await
                {
                    Err(error) if is_race(&error) => self.wait(round, None).await,
                    other => return other,
                }
            }
            self.push_once(reference, image, Trust::Nothing, progress)
                .await
        })
    }

    /// Asks a registry whether it takes blobs for a repository, by beginning an upload that is
    /// cancelled at once.
    ///
    /// # Errors
    /// When it can't be reached or doesn't.
    pub fn check_push(&self, reference: &Reference) -> Result<(), ImageError> {
        self.wait_for(async {
            let begun = self.begin(reference, "", Rights::Push).await?;
            if let Ok(url) = self.upload_url(reference, &begun) {
                let mut cancel = Ask::new(Method::DELETE, url);
                cancel.rights = Rights::Push;
                // Registries that can't cancel forget it after a while.
                _ = self.once(reference, &cancel).await;
            }
            Ok(())
        })
    }

    async fn push_once(
        &self,
        reference: &Reference,
        image: &PushImage<'_>,
        trust: Trust,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let send = |blob| self.push_blob(reference, blob, trust, progress);
        stream::iter(&image.blobs)
            .map(send)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for (bytes, media_type) in &image.manifests {
            let digest = BlobDigest::of(bytes).to_string();
            self.push_manifest(reference, &digest, bytes, media_type)
                .await?;
        }
        let (bytes, media_type) = &image.top;
        let name = match &reference.tag {
            Some(tag) => tag.clone(),
            None => BlobDigest::of(bytes).to_string(),
        };
        self.push_manifest(reference, &name, bytes, media_type)
            .await
    }

    pub(crate) async fn push_manifest(
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

    /// Sends a blob, if the registry doesn't have it. When an upload breaks nobody knows how much of it
    /// arrived, nor whether only the answer was lost: it is asked for again, and begun anew.
    async fn push_blob(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        trust: Trust,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let mut sent = false;
        for attempt in 0.. {
            if (trust != Trust::Nothing || sent) && self.has_blob(reference, blob).await {
                progress(&blob.sent(if sent { blob.size } else { 0 }, true));
                return Ok(());
            }
            let from = blob
                .mount_from
                .as_ref()
                .filter(|_| trust == Trust::All && !sent);
            let begun = self.mount_or_begin(reference, blob, from).await?;
            // Some registries see by the digest of what they were asked to mount that they have it.
            if begun.status() == StatusCode::CREATED {
                break;
            }
            match self.upload(reference, blob, &begun, progress).await {
                Ok(()) => break,
                Err(error) if attempt + 1 < UPLOADS && may_be_begun_anew(&error) => {
                    self.wait(attempt, None).await;
                }
                Err(error) => return Err(error),
            }
            sent = true;
        }
        progress(&blob.sent(blob.size, true));
        Ok(())
    }

    /// Whether the registry says that it has a blob. One that doesn't answer this is asked to take it:
    /// what is then wrong comes with words.
    async fn has_blob(&self, reference: &Reference, blob: &PushBlob<'_>) -> bool {
        let url = format!("{}/blobs/{}", self.home(reference), blob.digest);
        let mut head = Ask::new(Method::HEAD, url);
        head.rights = Rights::Push;
        head.tries = 2;
        self.send(reference, &head).await.is_ok()
    }

    async fn mount_or_begin(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        from: Option<&String>,
    ) -> Result<Response, ImageError> {
        if let Some(from) = from
            && let Some(begun) = self.mount(reference, blob, from).await
        {
            return Ok(begun);
        }
        self.begin(reference, "", Rights::Push).await
    }

    /// Asks for a blob of another repository: what the registry began instead, or nothing when it
    /// refuses, whatever the reason: the blob can still be sent.
    async fn mount(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        from: &str,
    ) -> Option<Response> {
        let query = format!("?mount={}&from={from}", blob.digest);
        let asked = self
            .begin(reference, &query, Rights::Mount(from.to_owned()))
            .await;
        // One that says neither that it has the blob nor where to send it has begun nothing.
        let is_of_use = |answer: &Response| {
            answer.status() == StatusCode::CREATED || answer.headers().contains_key(LOCATION)
        };
        asked.ok().filter(is_of_use)
    }

    async fn begin(
        &self,
        reference: &Reference,
        query: &str,
        rights: Rights,
    ) -> Result<Response, ImageError> {
        let url = format!("{}/blobs/uploads/{query}", self.home(reference));
        let mut start = Ask::new(Method::POST, url);
        start
            .headers
            .push((CONTENT_LENGTH.as_str(), "0".to_owned()));
        start.rights = rights;
        self.send(reference, &start).await
    }

    async fn upload(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        begun: &Response,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        // It may have to be fetched by this very client, which blocks.
        let path = on_own_thread(&blob.file)?;
        let location = self.upload_url(reference, begun)?;
        let sending = Sending {
            blob,
            path: &path,
            progress,
        };
        match self
            .send_blob(reference, &sending, Method::PUT, &location)
            .await
        {
            // A registry that takes no blob with the request that ends an upload.
            Err(ImageError::Answer {
                status: 405 | 501, ..
            }) => {
                let method = Method::PATCH;
                let sent = self
                    .send_blob(reference, &sending, method, &location)
                    .await?;
                self.end(reference, blob, &self.upload_url(reference, &sent)?)
                    .await
            }
            other => other.map(drop),
        }
    }

    /// Sends a blob's bytes, once: after a failure the upload is in an unknown state.
    async fn send_blob(
        &self,
        reference: &Reference,
        sending: &Sending<'_>,
        method: Method,
        location: &str,
    ) -> Result<Response, ImageError> {
        let blob = sending.blob;
        let handed_over = Arc::new(AtomicU64::new(0));
        let body = || -> std::io::Result<reqwest::Body> {
            let file = tokio::fs::File::from_std(host::open(sending.path)?);
            let count = handed_over.clone();
            count.store(0, Ordering::Relaxed);
            let pieces = ReaderStream::with_capacity(file, 256 * 1024);
            Ok(reqwest::Body::wrap_stream(pieces.inspect_ok(
                move |piece| _ = count.fetch_add(piece.len() as u64, Ordering::Relaxed),
            )))
        };
        let url = match method {
            Method::PUT => with_digest(location, &blob.digest),
            _ => location.to_owned(),
        };
        let mut ask = Ask::new(method, url);
        ask.headers
            .push((CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()));
        ask.headers
            .push((CONTENT_LENGTH.as_str(), blob.size.to_string()));
        ask.rights = Rights::Push;
        ask.body = Some(&body);
        ask.tries = 1;
        let answer = self.send(reference, &ask);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                done = &mut answer => return done,
                () = tokio::time::sleep(TICK) => {
                    let bytes = handed_over.load(Ordering::Relaxed);
                    (sending.progress)(&blob.sent(bytes, false));
                }
            }
        }
    }

    async fn end(
        &self,
        reference: &Reference,
        blob: &PushBlob<'_>,
        location: &str,
    ) -> Result<(), ImageError> {
        let mut ask = Ask::new(Method::PUT, with_digest(location, &blob.digest));
        ask.headers.push((CONTENT_LENGTH.as_str(), "0".to_owned()));
        ask.rights = Rights::Push;
        self.send(reference, &ask).await.map(drop)
    }

    /// Where to send a blob: the `Location` of the answer, which may be relative. A registry behind
    /// something that encrypts for it may name itself without.
    fn upload_url(&self, reference: &Reference, answer: &Response) -> Result<String, ImageError> {
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let joined = location.and_then(|location| answer.url().join(location).ok());
        let mut url = joined.ok_or_else(|| ImageError::Document {
            image: reference.to_string(),
            reason: "the registry doesn't say where to send a blob".to_owned(),
        })?;
        let asked = answer.url();
        let same_name = url.host_str() == asked.host_str() && url.port() == asked.port();
        if asked.scheme() == "https" && url.scheme() == "http" && same_name {
            _ = url.set_scheme("https");
        }
        Ok(url.into())
    }
}

fn with_digest(location: &str, digest: &BlobDigest) -> String {
    let join = if location.contains('?') { '&' } else { '?' };
    format!("{location}{join}digest={digest}")
}
