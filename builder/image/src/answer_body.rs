//! Bodies of answers, as far as they are wanted.

use std::io::Read as _;

use futures_util::StreamExt as _;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

use crate::error::unreachable;
use crate::{ImageError, Reference};

/// Manifests and configurations are no larger (distribution specification, "Pushing manifests").
const MAX_DOCUMENT: usize = 8 << 20;

/// An answer's body; `None` when it is longer than `most` bytes, whatever it said before.
pub(crate) async fn limited(answer: Response, most: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// What an answer's body begins with.
pub(crate) async fn beginning(answer: Response, most: usize) -> Vec<u8> {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(Ok(chunk)) = body.next().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// How a server encoded what was asked for as it is; some do so all the same.
pub(crate) fn encoding(answer: &Response) -> Option<String> {
    let value = answer.headers().get(CONTENT_ENCODING)?.to_str().ok()?;
    let value = value.trim().to_ascii_lowercase();
    (!value.is_empty() && value != "identity").then_some(value)
}

/// A document that was compressed on the way; `None` when it isn't one, or is too large.
fn unzipped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let most = MAX_DOCUMENT as u64 + 1;
    let read = flate2::read::GzDecoder::new(bytes)
        .take(most)
        .read_to_end(&mut plain);
    read.ok()
        .filter(|count| *count <= MAX_DOCUMENT)
        .map(|_| plain)
}

/// The bytes of a document that a registry sends.
pub(crate) async fn read_document(
    reference: &Reference,
    answer: Response,
) -> Result<Vec<u8>, ImageError> {
    let encoding = encoding(&answer);
    let bytes = limited(answer, MAX_DOCUMENT)
        .await
        .map_err(|error| unreachable(reference, &error))?;
    let bytes = match encoding.as_deref() {
        Some("gzip" | "x-gzip") => bytes.and_then(|bytes| unzipped(&bytes)),
        _ => bytes,
    };
    bytes.ok_or_else(|| ImageError::Document {
        image: reference.to_string(),
        reason: "a document is larger than any manifest may be".to_owned(),
    })
}
