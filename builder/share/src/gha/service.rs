//! The service's calls: Twirp, that is a POST of JSON for each, below
//! `/twirp/github.actions.results.api.v1.CacheService/`.

use std::time::{Duration, Instant};

use kiln_image::{Answer, Client, Exchange, ImageError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settings::GhaSettings;
use crate::RemoteError;

const CALLS: &str = "twirp/github.actions.results.api.v1.CacheService";
/// What this format's caches have in common: the service finds no others. The SHA-256 of `kiln-cache-1`.
const VERSION: &str = "828e470c399c81dfe232e1b10635f256af9c657dc1477dd985416c2fd27ad535";
/// How long one request may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is sent in all when the service fails or can't be reached.
const TRIES: u32 = 5;
/// How often it is tried to reach a service that can't be.
const TRIES_TO_REACH: u32 = 3;
/// As much as is shown of what a service says.
const MAX_REASON: usize = 300;

/// The service, as one workflow reaches it.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    settings: GhaSettings,
}

/// What became of a new cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It is to be sent here.
    At(String),
    /// There is one with its key, or will be: somebody else writes it, or has stopped doing so. With what the
    /// service said.
    Taken(String),
}

/// A cache that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: String,
    /// Where it can be fetched for some minutes.
    pub(super) url: String,
}

#[derive(Deserialize)]
struct Reserved {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_upload_url: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Finalized {
    #[serde(default)]
    ok: bool,
}

#[derive(Deserialize)]
struct Matched {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_download_url: String,
    #[serde(default)]
    matched_key: String,
}

/// Twirp's errors.
#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    msg: String,
}

impl Service {
    pub(super) fn new(client: Client, settings: GhaSettings) -> Self {
        Self { client, settings }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn settings(&self) -> &GhaSettings {
        &self.settings
    }

    /// Begins a cache.
    pub(super) fn create(&self, key: &str) -> Result<Created, RemoteError> {
        let body = json!({ "key": key, "version": VERSION });
        let answer = self.call("CreateCacheEntry", &body)?;
        let failure = failure(&answer);
        if answer.status == 409 || failure.code == "already_exists" {
            return Ok(Created::Taken(failure.msg));
        }
        let reserved: Reserved = self.accepted(&answer)?;
        match reserved.ok && !reserved.signed_upload_url.is_empty() {
            true => Ok(Created::At(reserved.signed_upload_url)),
            // A full or locked cache says why.
            false if !reserved.message.is_empty() => Err(RemoteError::Denied(reserved.message)),
            false => Ok(Created::Taken(String::new())),
        }
    }

    /// Makes a cache visible whose bytes were sent.
    pub(super) fn finalize(&self, key: &str, size: u64) -> Result<(), RemoteError> {
        let body = json!({ "key": key, "size_bytes": size, "version": VERSION });
        let answer = self.call("FinalizeCacheEntryUpload", &body)?;
        match self.accepted::<Finalized>(&answer)?.ok {
            true => Ok(()),
            false => Err(RemoteError::Unreachable(format!(
                "the service doesn't take {key}, which was sent whole"
            ))),
        }
    }

    /// The newest cache whose key is this one, or begins with it.
    pub(super) fn find(&self, key: &str) -> Result<Option<Found>, RemoteError> {
        let body = json!({ "key": key, "restore_keys": [key], "version": VERSION });
        let answer = self.call("GetCacheEntryDownloadURL", &body)?;
        if answer.status == 404 && failure(&answer).code != "bad_route" {
            return Ok(None);
        }
        let matched: Matched = self.accepted(&answer)?;
        Ok(matched.ok.then_some(Found {
            key: matched.matched_key,
            url: matched.signed_download_url,
        }))
    }

    fn call(&self, name: &str, body: &impl Serialize) -> Result<Answer, RemoteError> {
        let url = format!("{}/{CALLS}/{name}", self.settings.url);
        let authorization = format!("Bearer {}", self.settings.token);
        let body = serde_json::to_vec(body).map_err(|error| RemoteError::local(&error))?;
        self.send(&Exchange {
            method: "POST",
            url: &url,
            headers: &[
                ("authorization", &authorization),
                ("content-type", "application/json"),
            ],
            body: body.into(),
            within: TIMEOUT.min(self.settings.patience),
        })
    }

    /// Sends a request, and sends it again when that may help; the last answer.
    pub(super) fn send(&self, exchange: &Exchange<'_>) -> Result<Answer, RemoteError> {
        let begun = Instant::now();
        let mut tried = 0;
        loop {
            let answer = self.client.exchange(exchange);
            tried += 1;
            let wish = match &answer {
                // Whom the service limits it tells how long, or not: then it is asked ever more slowly.
                Ok(answer) if answer.status == 429 => answer.retry_after,
                Ok(answer) if may_pass(answer.status) && tried < TRIES => answer.retry_after,
                Err(ImageError::Unreachable { .. }) if tried < TRIES_TO_REACH => None,
                _ => return answer.map_err(RemoteError::from),
            };
            let own = self.pause_before(tried);
            let pause = wish.map_or(own, |wish| wish.max(own));
            if begun.elapsed().saturating_add(pause) > self.settings.patience {
                return match answer {
                    Ok(answer) if answer.status == 429 => Err(limited(wish)),
                    other => other.map_err(RemoteError::from),
                };
            }
            self.client.pause(pause)?;
        }
    }

    pub(super) fn pause_before(&self, tried: u32) -> Duration {
        self.client.options().first_pause() * 2u32.pow(tried.clamp(1, 7) - 1)
    }

    /// What an answer holds, if it is a success.
    fn accepted<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, RemoteError> {
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body).map_err(|error| {
                let url = &self.settings.url;
                RemoteError::Unreachable(format!("{url} doesn't speak the cache's API: {error}"))
            }),
            _ => Err(self.refused(answer)),
        }
    }

    fn refused(&self, answer: &Answer) -> RemoteError {
        let (url, status) = (&self.settings.url, answer.status);
        let said = match failure(answer).msg {
            text if text.is_empty() => String::new(),
            text => format!(": {}", text.chars().take(MAX_REASON).collect::<String>()),
        };
        match status {
            401 => RemoteError::Denied(format!(
                "{url} doesn't know the token{said}; tokens end with their job"
            )),
            403 => RemoteError::Denied(format!(
                "{url} doesn't allow it{said}; workflows of forks can read caches only"
            )),
            _ => RemoteError::Unreachable(format!("{url} answered {status}{said}")),
        }
    }
}

fn failure(answer: &Answer) -> Failure {
    match answer.status {
        200..=299 => Failure::default(),
        _ => serde_json::from_slice(&answer.body).unwrap_or_default(),
    }
}

/// Whether the same request may succeed later.
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 500 | 502 | 503 | 504)
}

fn limited(wish: Option<Duration>) -> RemoteError {
    let when = match wish {
        Some(wish) => format!("for {} seconds more", wish.as_secs()),
        None => "for longer than a build waits".to_owned(),
    };
    RemoteError::Unreachable(format!(
        "the service limits how often it is asked, {when} (429)"
    ))
}
