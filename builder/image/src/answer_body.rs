//! Bodies of answers, as far as they are wanted.

use futures_util::StreamExt as _;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

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
