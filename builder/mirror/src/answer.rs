//! What is answered, and with which words when it is no (distribution specification, "Error Codes").

use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use kiln_cache::Blob;
use kiln_execute::EngineError;
use kiln_graph::BlobDigest;
use kiln_image::ImageError;
use kiln_tree::host;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::route::range;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a file is read.
const CHUNK: usize = 256 << 10;
const DIGEST: &str = "docker-content-digest";
const VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// A "no".
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// How to log in at the registry above.
    pub(crate) challenge: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            challenge: None,
        }
    }

    pub(crate) fn unknown(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", what)
    }

    pub(crate) fn answer(self) -> Response<Body> {
        let Self {
            status,
            code,
            message,
            challenge,
        } = self;
        let error = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        let mut answer = Response::new(full(error.to_string()));
        *answer.status_mut() = status;
        put(&mut answer, CONTENT_TYPE.as_str(), "application/json");
        if let Some(challenge) = challenge {
            put(&mut answer, WWW_AUTHENTICATE.as_str(), &challenge);
        }
        answer
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        let text = error.to_string();
        match error {
            ImageError::Denied { status, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED);
                Self::new(status, "UNAUTHORIZED", text)
            }
            ImageError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", text)
            }
            ImageError::Answer { status, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                Self::new(status, "UNKNOWN", text)
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, "UNKNOWN", text),
        }
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Image(error) => error.into(),
            other => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                other.to_string(),
            ),
        }
    }
}

impl From<kiln_cache::StoreError> for Refusal {
    fn from(error: kiln_cache::StoreError) -> Self {
        EngineError::from(error).into()
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Sets a header; text that can't be in one is left out.
fn put(answer: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
}

/// This is a registry.
pub(crate) fn pong() -> Response<Body> {
    let mut answer = Response::new(full("{}"));
    put(&mut answer, VERSION.0, VERSION.1);
    put(&mut answer, CONTENT_TYPE.as_str(), "application/json");
    answer
}

/// A manifest.
pub(crate) fn manifest(
    digest: &BlobDigest,
    media_type: &str,
    bytes: Vec<u8>,
    is_head: bool,
) -> Response<Body> {
    let size = bytes.len();
    let mut answer = Response::new(if is_head { empty() } else { full(bytes) });
    put(&mut answer, CONTENT_TYPE.as_str(), media_type);
    put(&mut answer, CONTENT_LENGTH.as_str(), &size.to_string());
    put(&mut answer, DIGEST, &digest.to_string());
    put(&mut answer, VERSION.0, VERSION.1);
    answer
}

/// A blob of the store, or the bytes of it that a range asks for.
pub(crate) async fn blob(
    blob: &Blob,
    wanted: Option<&str>,
    is_head: bool,
) -> Result<Response<Body>, Refusal> {
    let part = wanted.and_then(|header| range(header, blob.size));
    let (start, end) = part.unwrap_or((0, blob.size));
    let body = match is_head {
        true => empty(),
        false => file(blob, start, end).await.map_err(|error| {
            let text = format!("cannot read blob {}: {error}", blob.digest);
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", text)
        })?,
    };
    let mut answer = Response::new(body);
    if part.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {start}-{}/{}", end - 1, blob.size);
        put(&mut answer, CONTENT_RANGE.as_str(), &text);
    }
    put(
        &mut answer,
        CONTENT_TYPE.as_str(),
        "application/octet-stream",
    );
    put(
        &mut answer,
        CONTENT_LENGTH.as_str(),
        &(end - start).to_string(),
    );
    put(&mut answer, ACCEPT_RANGES.as_str(), "bytes");
    put(&mut answer, DIGEST, &blob.digest.to_string());
    Ok(answer)
}

async fn file(blob: &Blob, start: u64, end: u64) -> io::Result<Body> {
    let mut file = tokio::fs::File::from_std(host::open(&blob.path)?);
    if start > 0 {
        file.seek(io::SeekFrom::Start(start)).await?;
    }
    let pieces = ReaderStream::with_capacity(file.take(end - start), CHUNK);
    Ok(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync())
}
