//! Single requests to services other than registries, such as those of a CI's cache: what they answer is the
//! caller's to judge, and to ask again.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, RANGE};

use crate::answer_body::limited;
use crate::download::host;
use crate::fetch::{Broken, copy_body, first_byte};
use crate::request::retry_after;
use crate::{Client, ImageError};

/// The longest answer that is kept in memory, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// One request. It is for this server: an answer that leads elsewhere is not followed.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The method's name: `POST`.
    pub method: &'a str,
    /// Where it is sent. Its query is shown nowhere: it may be a signature.
    pub url: &'a str,
    /// Headers beside those of every request.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is sent.
    pub body: Bytes,
    /// How long the answer may take.
    pub within: Duration,
}

/// What a server answered, whatever it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// How long the server wants to be left alone, if it says so.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Sends a request, once.
    ///
    /// # Errors
    /// When there is no answer, or it is larger than a megabyte.
    pub fn exchange(&self, exchange: &Exchange<'_>) -> Result<Answer, ImageError> {
        let Exchange { url, within, .. } = *exchange;
        let method = Method::from_bytes(exchange.method.as_bytes());
        let method = method.map_err(|error| ImageError::Document {
            image: without_query(url),
            reason: error.to_string(),
        })?;
        let request = self
            .connections()
            .staying_http()
            .request(method, url)
            .timeout(within);
        let headers = exchange.headers.iter();
        let request = headers.fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let request = request.body(exchange.body.clone());
        self.wait_for(async {
            let answer = request.send().await.map_err(|error| broken(url, &error))?;
            let (status, retry_after) = (answer.status().as_u16(), retry_after(&answer));
            let body = limited(answer, MAX_ANSWER).await;
            let body = body.map_err(|error| broken(url, &error))?;
            let body = body.ok_or_else(|| ImageError::Document {
                image: without_query(url),
                reason: "the answer is larger than a megabyte".to_owned(),
            })?;
            Ok(Answer {
                status,
                retry_after,
                body,
            })
        })
    }

    /// Writes what is at an address to `out`, from its byte `done` on, and no more than `max` bytes in all; counts in
    /// `done`. Asks once: after a failure it can be called again, and goes on where it was.
    ///
    /// # Errors
    /// When the transfer breaks, there is more, or `out` can't be written.
    pub fn fetch_more(
        &self,
        url: &str,
        max: u64,
        done: &mut u64,
        out: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let mut request = self.connections().staying_http().get(url);
        request = request.header(ACCEPT_ENCODING, "identity");
        if *done > 0 {
            request = request.header(RANGE, format!("bytes={done}-"));
        }
        self.wait_for(async {
            let answer = request.send().await.map_err(|error| broken(url, &error))?;
            let status = answer.status();
            if !status.is_success() {
                return Err(ImageError::Answer {
                    image: without_query(url),
                    host: host(url),
                    status: status.as_u16(),
                    body: String::new(),
                });
            }
            let cut = || ImageError::Unreachable {
                image: without_query(url),
                host: host(url),
                reason: "the transfer was cut".to_owned(),
            };
            let start = first_byte(&answer).filter(|start| *start <= *done);
            let skip = *done - start.ok_or_else(cut)?;
            match copy_body(answer, skip, done, max, out, &|_| {}).await {
                Ok(()) if *done <= max => Ok(()),
                Ok(()) => Err(ImageError::WrongSize {
                    image: without_query(url),
                    what: "the answer".to_owned(),
                    expected: max,
                    actual: *done,
                }),
                Err(Broken::Read) => Err(cut()),
                Err(Broken::Write(source)) => Err(ImageError::Io {
                    what: without_query(url),
                    source,
                }),
            }
        })
    }

    /// Waits, unless the client is closed.
    ///
    /// # Errors
    /// When it is closed.
    pub fn pause(&self, time: Duration) -> Result<(), ImageError> {
        self.wait_for(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn broken(url: &str, error: &reqwest::Error) -> ImageError {
    ImageError::Unreachable {
        image: without_query(url),
        host: host(url),
        reason: crate::error::cause(error),
    }
}
