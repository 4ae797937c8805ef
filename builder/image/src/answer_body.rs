//! Bodies of answers, as far as they are wanted.

use futures_util::StreamExt as _;
use reqwest::Response;

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
