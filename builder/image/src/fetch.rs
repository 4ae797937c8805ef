//! Fetches blobs.

use std::io::Write;

use futures_util::StreamExt as _;
use kiln_graph::BlobDigest;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use crate::answer_body::encoding;
use crate::layout::Layout;
use crate::request::TRIES;
use crate::{Client, ImageError, ImageName, Reference};

impl Client {
    /// Fetches a blob of an image; `progress` is told the bytes so far. The digest is the
    /// caller's to check, the length is checked here.
    ///
    /// # Errors
    /// When it can't be had whole, or `out` can't be written.
    pub fn fetch_blob(
        &self,
        image: &str,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        match image.parse()? {
            ImageName::Registry(reference) => {
                let fetch = self.fetch_remote(&reference, digest, size, out, progress, TRIES);
                self.wait_for(fetch)
            }
            ImageName::Layout { directory, .. } => Layout::open(&directory)?.copy_blob(digest, out),
            ImageName::Archive { file, .. } => self.archive(&file)?.copy_blob(digest, out),
            ImageName::Daemon(name) => {
                Layout::open_tar(self.saved(&name)?.path())?.copy_blob(digest, out)
            }
        }
    }

    /// Fetches a blob that can be done without: as [`Self::fetch_blob`], but a transfer that breaks is
    /// taken up again only once.
    ///
    /// # Errors
    /// When it can't be had whole, or `out` can't be written.
    pub fn try_blob(
        &self,
        image: &Reference,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        self.wait_for(self.fetch_remote(image, digest, size, out, progress, 2))
    }

    /// A transfer that breaks is taken up again where it broke; from the beginning where the server
    /// doesn't do that.
    async fn fetch_remote(
        &self,
        reference: &Reference,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
        tries: u32,
    ) -> Result<(), ImageError> {
        let path = format!("blobs/{digest}");
        let mut done = 0;
        let mut takes_ranges = true;
        for attempt in 0..tries {
            let mut headers = Vec::new();
            if done > 0 && takes_ranges {
                headers.push(("range", format!("bytes={done}-")));
            }
            let answer = match self.send_anywhere(reference, &path, &headers).await {
                Err(ImageError::Answer { status: 416, .. }) if takes_ranges => {
                    takes_ranges = false;
                    continue;
                }
                other => other?,
            };
            if let Some(encoding) = encoding(&answer) {
                return Err(encoded(reference, digest, &encoding));
            }
            let before = done;
            let copied = match first_byte(&answer) {
                Some(start) if start <= done => {
                    copy_body(answer, done - start, &mut done, size, out, progress).await
                }
                _ => {
                    takes_ranges = false;
                    Err(Broken::Read)
                }
            };
            match copied {
                Ok(()) if done == size => return Ok(()),
                Err(Broken::Write(source)) => {
                    return Err(ImageError::Io {
                        what: format!("layer {digest}"),
                        source,
                    });
                }
                Ok(()) | Err(Broken::Read) if done > before && attempt + 1 < TRIES => {}
                Ok(()) | Err(Broken::Read) => self.wait(attempt, None).await,
            }
            if done > size {
                break;
            }
        }
        let (image, what) = (reference.to_string(), format!("layer {digest}"));
        Err(ImageError::WrongSize {
            image,
            what,
            expected: size,
            actual: done,
        })
    }
}

pub(crate) fn encoded(reference: &Reference, digest: &BlobDigest, encoding: &str) -> ImageError {
    let reason = format!(
        "layer {digest} comes in another encoding ({encoding}): something between here and the registry changes what it sends"
    );
    let image = reference.to_string();
    ImageError::Document { image, reason }
}

/// Where in the blob an answer's body begins; `None` when it doesn't say.
pub(crate) fn first_byte(answer: &Response) -> Option<u64> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

pub(crate) enum Broken {
    Read,
    Write(std::io::Error),
}

pub(crate) async fn copy_body(
    answer: Response,
    mut skip: u64,
    done: &mut u64,
    size: u64,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<(), Broken> {
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Broken::Read)?;
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
        skip -= skipped as u64;
        let fresh = &chunk[skipped..];
        *done += fresh.len() as u64;
        if *done > size {
            return Ok(());
        }
        out.write_all(fresh).map_err(Broken::Write)?;
        progress(*done);
    }
    Ok(())
}
