//! Fetches one file over HTTP or HTTPS.

use std::io::Write;
use std::time::SystemTime;

use flate2::write::MultiGzDecoder;
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_DISPOSITION, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use zeroize::Zeroizing;

use crate::answer_body::encoding;
use crate::{Client, ImageError};

/// How often a download is tried in all.
const TRIES: u32 = 4;

/// What a server said of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// Whether it is still what `etag` named: nothing was written.
    pub unchanged: bool,
    /// Names this version of the file.
    pub etag: Option<String>,
    /// When it was changed.
    pub last_modified: Option<SystemTime>,
    /// The name that the server gives the file.
    pub file_name: Option<String>,
}

impl Client {
    /// Fetches a file into `out`, which `start` gives anew for each try. What the server says is
    /// gzip on the way (`Content-Encoding`) is decoded, as other builders do.
    ///
    /// # Errors
    /// When it can't be had, or `out` can't be written.
    pub fn download(
        &self,
        url: &str,
        etag: Option<&str>,
        headers: &[(&str, Zeroizing<String>)],
        start: &mut dyn FnMut() -> std::io::Result<Box<dyn Write>>,
    ) -> Result<Downloaded, ImageError> {
        self.wait_for(async {
            let mut last = None;
            for attempt in 0..TRIES {
                match self.download_once(url, etag, headers, start).await {
                    Err(error @ ImageError::Unreachable { .. }) => last = Some(error),
                    Err(
                        error @ ImageError::Answer {
                            status: 429 | 500..,
                            ..
                        },
                    ) => last = Some(error),
                    other => return other,
                }
                self.wait(attempt, None).await;
            }
            Err(last.unwrap_or_else(|| not_found(url)))
        })
    }

    async fn download_once(
        &self,
        url: &str,
        etag: Option<&str>,
        headers: &[(&str, Zeroizing<String>)],
        start: &mut dyn FnMut() -> std::io::Result<Box<dyn Write>>,
    ) -> Result<Downloaded, ImageError> {
        let mut request = self.connections().http().get(url);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        for (name, value) in headers {
            request = request.header(*name, value.as_str());
        }
        let answer = request.send().await.map_err(|error| broken(url, &error))?;
        let status = answer.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Downloaded {
                unchanged: true,
                ..Downloaded::default()
            });
        }
        if status == StatusCode::NOT_FOUND {
            return Err(not_found(url));
        }
        if !status.is_success() {
            let (image, host, status) = (url.to_owned(), host(url), status.as_u16());
            return Err(ImageError::Answer {
                image,
                host,
                status,
                body: String::new(),
            });
        }
        let header = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let about = Downloaded {
            unchanged: false,
            etag: header(ETAG).map(str::to_owned),
            last_modified: header(LAST_MODIFIED).and_then(http_date),
            file_name: header(CONTENT_DISPOSITION).and_then(disposition_name),
        };
        let fail = |source| ImageError::Io {
            what: url.to_owned(),
            source,
        };
        let is_gzip = encoding(&answer).is_some_and(|name| name == "gzip");
        let mut out = start().map_err(fail)?;
        if is_gzip {
            let mut decoder = MultiGzDecoder::new(out);
            write_body(url, answer, &mut decoder).await?;
            out = decoder.finish().map_err(fail)?;
        } else {
            write_body(url, answer, &mut out).await?;
        }
        out.flush().map_err(fail)?;
        Ok(about)
    }
}

async fn write_body(
    url: &str,
    answer: reqwest::Response,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let fail = |source| ImageError::Io {
        what: url.to_owned(),
        source,
    };
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| broken(url, &error))?;
        out.write_all(&chunk).map_err(fail)?;
    }
    Ok(())
}

/// A date of HTTP (RFC 9110, section 5.6.7). Servers that write their own say UTC where GMT is meant.
fn http_date(text: &str) -> Option<SystemTime> {
    let start = text.trim().strip_suffix("UTC");
    let text = start.map_or_else(|| text.trim().to_owned(), |start| format!("{start}GMT"));
    httpdate::parse_http_date(&text).ok()
}

/// The `filename` of a `Content-Disposition` header (RFC 6266), without directories.
fn disposition_name(text: &str) -> Option<String> {
    let value = text
        .split(';')
        .find_map(|part| part.trim().strip_prefix("filename="))?;
    let name = value.trim_matches('"').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

pub(crate) fn host(url: &str) -> String {
    url::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

fn not_found(url: &str) -> ImageError {
    ImageError::NotFound {
        image: url.to_owned(),
        host: host(url),
    }
}

pub(crate) fn broken(url: &str, error: &reqwest::Error) -> ImageError {
    ImageError::Unreachable {
        image: url.to_owned(),
        host: host(url),
        reason: crate::error::cause(error),
    }
}
