//! One request to a registry: logs in where that is asked for, waits where it is told to, tries again
//! what may succeed, and goes where it is sent.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};

use crate::answer_body::beginning;
use crate::auth::{Answered, answer, challenge};
use crate::client::Client;
use crate::error::{speaks_http, unreachable};
use crate::http_client::MAX_REDIRECTS;
use crate::{ImageError, Reference};

/// How often a request is tried in all.
pub(crate) const TRIES: u32 = 5;
/// The longest time that a server's wish is heeded.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// What is read of an answer that is shown to people.
const MAX_REFUSAL: usize = 4 << 10;

/// What a request needs to be allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rights {
    #[default]
    Pull,
    Push,
    /// To push, and to pull from another repository of the registry.
    Mount(String),
    Delete,
}

impl Rights {
    /// The scopes of Docker's registry token specification.
    fn scopes(&self, repository: &str) -> Vec<String> {
        let scope = |repository: &str, actions| format!("repository:{repository}:{actions}");
        match self {
            Self::Pull => vec![scope(repository, "pull")],
            Self::Push => vec![scope(repository, "pull,push")],
            Self::Mount(from) => vec![scope(repository, "pull,push"), scope(from, "pull")],
            Self::Delete => vec![scope(repository, "pull,delete")],
        }
    }

    /// The name that a token for these rights is kept under.
    pub(crate) fn token_name(&self, reference: &Reference) -> String {
        let scopes = self.scopes(&reference.repository).join(" ");
        format!("{} {scopes}", reference.host)
    }
}

/// One request to a registry, to be tried several times.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<&'a (dyn Fn() -> std::io::Result<reqwest::Body> + Sync)>,
    pub(crate) rights: Rights,
    /// Whether credentials are kept back: for mirrors, which have no right to them.
    pub(crate) anonymous: bool,
    /// How often it is tried when the server can't be reached or asks for time.
    pub(crate) tries: u32,
}

impl Ask<'_> {
    pub(crate) fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            rights: Rights::Pull,
            anonymous: false,
            tries: TRIES,
        }
    }
}

impl Client {
    pub(crate) async fn wait(&self, attempt: u32, server_wish: Option<Duration>) {
        let wait = server_wish.unwrap_or(self.options().first_pause() * 2u32.pow(attempt));
        tokio::time::sleep(wait.min(MAX_WAIT)).await;
    }

    /// Sends a request: answers challenges, waits when told to, tries again what may succeed. What
    /// comes is a success.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
    ) -> Result<Response, ImageError> {
        let mut refreshed = false;
        let mut last = None;
        let mut attempt = 0;
        while attempt < ask.tries {
            let answer = match self.once(reference, ask).await {
                Ok(answer) => answer,
                Err(error) if error.is_builder() => return Err(unreachable(reference, &error)),
                Err(error) => {
                    let refused = error.is_connect();
                    last = Some(unreachable(reference, &error));
                    attempt += 1;
                    if attempt == ask.tries || (refused && attempt > 1) {
                        break;
                    }
                    self.wait(attempt - 1, None).await;
                    continue;
                }
            };
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && !refreshed {
                refreshed = true;
                self.log_in(reference, answer, &ask.rights).await?;
                continue;
            }
            if status.is_success() {
                return Ok(answer);
            }
            if !is_temporary(status) {
                return Err(self.refusal(reference, answer).await);
            }
            let wish = retry_after(&answer);
            last = Some(self.refusal(reference, answer).await);
            attempt += 1;
            // Whoever asks once begins anew: not before the server wants it.
            if attempt < ask.tries || (ask.tries == 1 && wish.is_some()) {
                self.wait(attempt - 1, wish).await;
            }
        }
        Err(last.unwrap_or_else(|| self.denied(reference, 401, String::new())))
    }

    /// Sends a request once, and once more to each place that it is sent to.
    pub(crate) async fn once(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
    ) -> reqwest::Result<Response> {
        let mut url = ask.url.clone();
        let mut redirects = 0;
        loop {
            let answer = match self.hop(reference, ask, &self.hosts().reached(&url)).await {
                Err(error) if self.is_insecure(&url) && speaks_http(&error) => {
                    self.hosts().note_plain(&url);
                    self.hop(reference, ask, &self.hosts().reached(&url))
                        .await?
                }
                answer => answer?,
            };
            match redirected_to(&answer) {
                Some(next) if redirects < MAX_REDIRECTS => url = next,
                _ => return Ok(answer),
            }
            redirects += 1;
        }
    }

    async fn hop(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
        url: &str,
    ) -> reqwest::Result<Response> {
        let mut request = self.http_to(url).request(ask.method.clone(), url);
        request = request.header(ACCEPT_ENCODING, "identity");
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let token = {
            let tokens = self.tokens().lock().unwrap_or_else(PoisonError::into_inner);
            tokens.get(&ask.rights.token_name(reference)).cloned()
        };
        if let Some(token) = token.filter(|_| !ask.anonymous && self.is_home(reference, url)) {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(body) = ask.body
            && let Ok(body) = body()
        {
            request = request.body(body);
        }
        request.send().await
    }

    /// Whether an address is at the registry itself, spoken to as safely as it is.
    fn is_home(&self, reference: &Reference, url: &str) -> bool {
        let place = |url: &str| {
            let url = reqwest::Url::parse(url).ok()?;
            let port = url.port_or_known_default();
            Some((url.scheme().to_owned(), url.host_str()?.to_owned(), port))
        };
        place(url).is_some_and(|at| Some(at) == place(&self.home(reference)))
    }

    async fn log_in(
        &self,
        reference: &Reference,
        refused: Response,
        rights: &Rights,
    ) -> Result<(), ImageError> {
        // Whoever a registry redirects to has no right to its credentials.
        let asked = refused.url().clone();
        let challenge = challenge(refused.headers())
            .filter(|_| self.is_home(reference, asked.as_str()))
            .filter(|challenge| asked.scheme() != "https" || challenge.is_encrypted());
        let Some(challenge) = challenge else {
            return Err(self.refusal(reference, refused).await);
        };
        let scopes = rights.scopes(&reference.repository);
        let Answered { header, problem } = answer(
            self.http_for(&challenge),
            &reference.host,
            &challenge,
            &scopes,
            self.credentials(),
        )
        .await
        .map_err(|error| unreachable(reference, &error))?;
        if let Some(problem) = problem {
            let mut problems = self
                .problems()
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            problems.insert(reference.host.clone(), problem);
        }
        let Some(header) = header else {
            return Err(self.refusal(reference, refused).await);
        };
        let mut tokens = self.tokens().lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(rights.token_name(reference), header);
        Ok(())
    }

    fn denied(&self, reference: &Reference, status: u16, reason: String) -> ImageError {
        let problems = self
            .problems()
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ImageError::Denied {
            image: reference.to_string(),
            host: reference.host.clone(),
            status,
            reason,
            credentials: problems.get(&reference.host).cloned(),
        }
    }

    /// An answer that is no success, as an error.
    async fn refusal(&self, reference: &Reference, answer: Response) -> ImageError {
        let (image, host) = (reference.to_string(), reference.host.clone());
        let status = answer.status();
        let place = answer.headers().get(LOCATION).cloned();
        let body = beginning(answer, MAX_REFUSAL).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.denied(reference, status.as_u16(), message(&body))
            }
            StatusCode::NOT_FOUND => ImageError::NotFound { image, host },
            _ if status.is_redirection() => ImageError::Document {
                image,
                reason: match place {
                    Some(_) => format!("{host} redirects again and again"),
                    None => format!("{host} answered {status}, but not where to go"),
                },
            },
            _ => ImageError::Answer {
                image,
                host,
                status: status.as_u16(),
                body: String::from_utf8_lossy(&body).chars().take(500).collect(),
            },
        }
    }
}

/// Where an answer sends the same request. Answers to a request without a body were followed before.
fn redirected_to(answer: &Response) -> Option<String> {
    if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
        return None;
    }
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let next = answer.url().join(location).ok()?;
    matches!(next.scheme(), "http" | "https").then(|| next.into())
}

/// Whether the same request may succeed later.
fn is_temporary(status: StatusCode) -> bool {
    let more = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let never = [
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    ];
    more.contains(&status) || (status.is_server_error() && !never.contains(&status))
}

/// What a registry says in its errors (distribution specification, "Error Codes").
fn message(body: &[u8]) -> String {
    let text = |error: &serde_json::Value| {
        let part = |name| error.get(name).and_then(serde_json::Value::as_str);
        let parts = [part("code"), part("message")];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .collect();
        parts.join(" ")
    };
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = document.get("errors").and_then(serde_json::Value::as_array);
    let all: Vec<String> = errors.into_iter().flatten().map(text).collect();
    all.join("; ").chars().take(500).collect()
}

/// How long a server wants to be left alone: in seconds, or until a time (RFC 9110, 10.2.3).
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_errors_are_read() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X","message":""},{}]}"#;
        assert_eq!(message(body), "DENIED no; X; ");
        assert_eq!(message(b"<html>"), "");
        assert_eq!(message(br#"{"errors":7}"#), "");
    }

    #[test]
    fn what_may_succeed_later() {
        let later = [408, 425, 429, 500, 502, 503, 504, 520];
        let never = [400, 401, 403, 404, 405, 409, 413, 416, 501];
        let temporary = |status: &u16| is_temporary(StatusCode::from_u16(*status).unwrap());
        assert!(later.iter().all(temporary));
        assert!(!never.iter().any(temporary));
    }

    #[test]
    fn tokens_are_kept_by_what_they_allow() {
        let reference: Reference = "r.example/a/b:1".parse().unwrap();
        let mount = Rights::Mount("base".to_owned());
        assert_eq!(
            mount.token_name(&reference),
            "r.example repository:a/b:pull,push repository:base:pull"
        );
        assert_ne!(
            Rights::Push.token_name(&reference),
            mount.token_name(&reference)
        );
    }
}
