//! Fetches parts of blobs (RFC 9110, 14.2), one range a request: several in one are refused by some
//! registries.

use std::io::Write;
use std::ops::Range;

use kiln_graph::BlobDigest;
use reqwest::StatusCode;

use crate::answer_body::encoding;
use crate::fetch::{Broken, copy_body, encoded, first_byte};
use crate::{Client, ImageError, Reference};

/// A part that breaks is taken up again so often.
const TRIES: u32 = 2;

impl Client {
    /// Fetches some bytes of a blob; `progress` is told how many came so far. They are not checked.
    ///
    /// # Errors
    /// When the registry doesn't send just these bytes, or `out` can't be written.
    pub fn blob_range(
        &self,
        image: &Reference,
        digest: &BlobDigest,
        range: Range<u64>,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        self.wait_for(self.fetch_range(image, digest, range, out, progress))
    }

    async fn fetch_range(
        &self,
        image: &Reference,
        digest: &BlobDigest,
        range: Range<u64>,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        let path = format!("blobs/{digest}");
        let size = range.end.saturating_sub(range.start);
        let mut done = 0;
        for attempt in 0..TRIES {
            let start = range.start + done;
            // Both ends are part of it.
            let header = ("range", format!("bytes={start}-{}", range.end - 1));
            let answer = self.send_anywhere(image, &path, &[header]).await?;
            if let Some(encoding) = encoding(&answer) {
                return Err(encoded(image, digest, &encoding));
            }
            if answer.status() != StatusCode::PARTIAL_CONTENT || first_byte(&answer) != Some(start)
            {
                return Err(no_parts(image));
            }
            match copy_body(answer, 0, &mut done, size, out, progress).await {
                Ok(()) if done == size => return Ok(()),
                Err(Broken::Write(source)) => {
                    let what = format!("a part of layer {digest}");
                    return Err(ImageError::Io { what, source });
                }
                Ok(()) if done > size => break,
                Ok(()) | Err(Broken::Read) if attempt + 1 == TRIES => break,
                Ok(()) | Err(Broken::Read) => self.wait(attempt, None).await,
            }
        }
        Err(ImageError::WrongSize {
            image: image.to_string(),
            what: format!("a part of layer {digest}"),
            expected: size,
            actual: done,
        })
    }
}

fn no_parts(image: &Reference) -> ImageError {
    ImageError::Document {
        image: image.to_string(),
        reason: format!("{} sends no parts of blobs", image.host),
    }
}
