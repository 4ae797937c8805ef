//! Asks servers that aren't registries for small documents.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::LOCATION;
use reqwest::{RequestBuilder, Response};

use crate::download::broken;
use crate::{Client, ImageError};

/// The most that a short answer may have, in bytes.
const SHORT: usize = 1 << 20;

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShortAnswer {
    /// HTTP's status.
    pub status: u16,
    /// Where else the server says it is.
    pub location: Option<String>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Client {
    /// Asks for a small document, with headers. Asks once, and waits no longer than `within`. What the
    /// headers have is for this server: an answer that leads elsewhere is not followed.
    ///
    /// # Errors
    /// When there is no answer, or it is larger than a megabyte.
    pub fn get(
        &self,
        url: &str,
        headers: &[(String, String)],
        within: Duration,
    ) -> Result<ShortAnswer, ImageError> {
        let request = self.connections().staying_http().get(url);
        self.short_answer(url, request, headers, within)
    }

    /// Sends a small document in the same way.
    ///
    /// # Errors
    /// When there is no answer, or it is larger than a megabyte.
    pub fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        within: Duration,
    ) -> Result<ShortAnswer, ImageError> {
        let request = self.connections().staying_http().post(url).body(body);
        self.short_answer(url, request, headers, within)
    }

    fn short_answer(
        &self,
        url: &str,
        request: RequestBuilder,
        headers: &[(String, String)],
        within: Duration,
    ) -> Result<ShortAnswer, ImageError> {
        let headers = headers.iter();
        let request = headers.fold(request.timeout(within), |request, (name, value)| {
            request.header(name, value)
        });
        self.wait_for(async {
            let answer = request.send().await.map_err(|error| broken(url, &error))?;
            let location = answer.headers().get(LOCATION);
            Ok(ShortAnswer {
                status: answer.status().as_u16(),
                location: location
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
                body: short_body(url, answer).await?,
            })
        })
    }
}

async fn short_body(url: &str, answer: Response) -> Result<Vec<u8>, ImageError> {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| broken(url, &error))?);
        if bytes.len() > SHORT {
            let reason = "the answer is larger than a megabyte".to_owned();
            let image = url.to_owned();
            return Err(ImageError::Document { image, reason });
        }
    }
    Ok(bytes)
}
