//! Signing without a key that is kept: asks Fulcio for a certificate, a log to note the signature, and an
//! authority for the time.
//!
//! `--sign keyless[,fulcio=URL][,rekor=URL][,rekor-version=1|2][,timestamp=URL][,token=env:NAME|file:PATH]`. The
//! services are Sigstore's own unless they are named. What they learn: the token, the certificate, and the digest
//! of what is signed; a log of the first version is sent the statement as well, and keeps its digest.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_attest::keyless::{CERTIFICATE_PATH, CertifiedKey, LogVersion};
use kiln_attest::timestamp_query;
use kiln_image::{Client, ImageError, ShortAnswer, is_loopback};

use super::identity_source::IdentitySource;
use crate::Error;

const FULCIO: &str = "https://fulcio.sigstore.dev";
const REKOR: &str = "https://rekor.sigstore.dev";
/// Certificates hold for ten minutes: a key signs for half of that.
const KEY_AGE: Duration = Duration::from_secs(5 * 60);
/// How long a service may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A service that fails is asked again after these.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// As much as is shown of an answer that says why.
const MAX_REASON: usize = 300;

/// Signs so.
#[derive(Debug)]
pub(super) struct Keyless {
    fulcio: Service,
    rekor: Service,
    version: LogVersion,
    timestamp: Option<Service>,
    identity: IdentitySource,
    key: Mutex<Option<(Instant, CertifiedKey)>>,
}

/// A longer word of what was written may be a token, and isn't shown.
const MAX_SHOWN: usize = 32;

/// A word of what was written, unless it may be a token.
pub(super) fn shown(word: &str) -> &str {
    if word.len() > MAX_SHOWN { "…" } else { word }
}

impl Keyless {
    /// Reads what stands behind `keyless,`. `token` is what is given elsewhere.
    pub(super) fn read(spec: &str, token: Option<&str>) -> Result<Self, String> {
        let (mut fulcio, mut rekor) = (FULCIO, REKOR);
        let (mut version, mut timestamp, mut token) = (LogVersion::V1, None, token);
        for field in spec.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match (key, value) {
                (_, "") => return Err(format!("'{}' needs a value", shown(key))),
                ("fulcio" | "fulcio-url", value) => fulcio = value,
                ("rekor" | "rekor-url", value) => rekor = value,
                ("rekor-version", value) => version = log_version(value)?,
                ("timestamp" | "timestamp-server-url", value) => timestamp = Some(value),
                ("token" | "identity-token", value) => token = Some(value),
                _ => {
                    return Err(format!(
                        "unknown key '{}': use fulcio, rekor, rekor-version, timestamp or token",
                        shown(key)
                    ));
                }
            }
        }
        if version == LogVersion::V2 && timestamp.is_none() {
            let text = "a log of Rekor's second version says no time: name a timestamp authority by timestamp=URL";
            return Err(text.to_owned());
        }
        let timestamp = timestamp.map(|url| Service::new("the timestamp authority", url));
        Ok(Self {
            fulcio: Service::new("Fulcio", fulcio)?,
            rekor: Service::new("Rekor", rekor)?,
            version,
            timestamp: timestamp.transpose()?,
            identity: IdentitySource::read(token)?,
            key: Mutex::default(),
        })
    }

    /// The bundle of a statement and its signature.
    pub(super) fn bundle(&self, client: &Client, statement: &[u8]) -> Result<Vec<u8>, Error> {
        let mut place = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = place
            .take()
            .filter(|(issued, _)| issued.elapsed() < KEY_AGE);
        let (_, key) = match fresh {
            Some(fresh) => place.insert(fresh),
            None => place.insert((Instant::now(), self.certified_key(client)?)),
        };
        let signature = key.sign(statement)?;
        let timestamp = self.timestamp.as_ref().map(|authority| {
            let query = timestamp_query(signature.as_bytes());
            authority.post(client, "", "application/timestamp-query", &query)
        });
        let timestamp = timestamp.transpose()?;
        let answer = self.entry(client, &signature.log_request(self.version))?;
        let bundle = signature.bundle(self.version, &answer, timestamp.as_deref());
        bundle.map_err(|error| self.rekor.failed(error.to_string()))
    }

    /// The log's entry of a signature. One that is there already is taken: the answer to an earlier request may have
    /// been lost.
    fn entry(&self, client: &Client, request: &[u8]) -> Result<Vec<u8>, Error> {
        let (rekor, version) = (&self.rekor, self.version);
        let answer = rekor.try_post(client, version.path(), JSON, request)?;
        let there = answer.location.as_deref().filter(|_| answer.status == 409);
        match there.and_then(|location| version.existing(location)) {
            Some(path) => rekor.get(client, &path, &[]),
            None => rekor.expected(answer),
        }
    }

    fn certified_key(&self, client: &Client) -> Result<CertifiedKey, Error> {
        let token = self.identity.token(client)?;
        let key = CertifiedKey::request(&token, |request| {
            self.fulcio.post(client, CERTIFICATE_PATH, JSON, &request)
        });
        key.map_err(|error| match error {
            Error::Attest(error) => self.fulcio.failed(error.to_string()),
            other => other,
        })
    }
}

const JSON: &str = "application/json";

fn log_version(text: &str) -> Result<LogVersion, String> {
    match text {
        "1" => Ok(LogVersion::V1),
        "2" => Ok(LogVersion::V2),
        other => Err(format!("rekor-version={other}: use 1 or 2")),
    }
}

/// A service over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    name: &'static str,
    address: String,
}

impl Service {
    /// A service at an address. It is sent tokens: only this machine is spoken to without encryption.
    pub(super) fn new(name: &'static str, address: &str) -> Result<Self, String> {
        let address = address.trim_end_matches('/').to_owned();
        let is_own = address.starts_with("http://") && is_loopback(host(&address));
        match address.starts_with("https://") || is_own {
            true => Ok(Self { name, address }),
            false => Err(format!("{address}: {name} is reached by https://")),
        }
    }

    /// That it failed, and why.
    pub(super) fn failed(&self, reason: String) -> Error {
        Error::Signing {
            service: format!("{} ({})", self.name, host(&self.address)),
            reason,
        }
    }

    fn post(&self, client: &Client, path: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>, Error> {
        self.expected(self.try_post(client, path, kind, body)?)
    }

    /// The same, whatever it answers.
    fn try_post(
        &self,
        client: &Client,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<ShortAnswer, Error> {
        let headers = [("Content-Type", kind), ("Accept", "*/*")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = format!("{}{path}", self.address);
        self.ask(|| client.post(&url, &headers, body.to_vec(), TIMEOUT))
    }

    pub(super) fn get(
        &self,
        client: &Client,
        path: &str,
        headers: &[(String, String)],
    ) -> Result<Vec<u8>, Error> {
        let url = format!("{}{path}", self.address);
        self.expected(self.ask(|| client.get(&url, headers, TIMEOUT))?)
    }

    /// What it answers. What a later try may mend is tried again.
    fn ask(&self, ask: impl Fn() -> Result<ShortAnswer, ImageError>) -> Result<ShortAnswer, Error> {
        let mut pauses = PAUSES.iter();
        loop {
            let failed = match ask() {
                Ok(answer) if !matches!(answer.status, 429 | 500..) => return Ok(answer),
                Ok(answer) => refusal(answer.status, &answer.body),
                Err(error @ ImageError::Cancelled) => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            match pauses.next() {
                Some(pause) => std::thread::sleep(*pause),
                None => return Err(self.failed(failed)),
            }
        }
    }

    /// The document of an answer that is one.
    fn expected(&self, answer: ShortAnswer) -> Result<Vec<u8>, Error> {
        match answer.status {
            200..=299 => Ok(answer.body),
            status => Err(self.failed(refusal(status, &answer.body))),
        }
    }
}

/// The host of an address. Paths and queries can have what isn't to be shown.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

fn refusal(status: u16, answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.chars().filter(|c| !c.is_control());
    let text: String = text.take(MAX_REASON).collect();
    format!("it answered {status}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    // {"sub":"a"}
    const TOKEN: &str = "e30.eyJzdWIiOiJhIn0.x";

    #[test]
    fn what_is_asked_of_whom() {
        let read = |spec: &str| Keyless::read(spec, Some(TOKEN));
        let public = read("").unwrap();
        assert_eq!(public.fulcio.address, FULCIO);
        assert_eq!((public.version, public.timestamp), (LogVersion::V1, None));
        let own =
            "fulcio=http://localhost:1/,rekor=https://r,rekor-version=2,timestamp=https://t/x";
        let own = read(own).unwrap();
        assert_eq!(own.fulcio.address, "http://localhost:1");
        assert_eq!(own.timestamp.unwrap().address, "https://t/x");
        let cases = [
            ("colour=red", "unknown key 'colour'"),
            ("fulcio", "'fulcio' needs a value"),
            ("rekor=", "'rekor' needs a value"),
            ("rekor-version=3", "use 1 or 2"),
            ("rekor-version=2", "name a timestamp authority"),
            ("fulcio=http://fulcio.example", "is reached by https://"),
            ("fulcio=http://localhost.example", "is reached by https://"),
            ("fulcio=http://127.0.0.1.example/", "is reached by https://"),
            (
                "fulcio=http://127.0.0.1:1@fulcio.example",
                "is reached by https://",
            ),
            (
                "fulcio=http://fulcio.example#@localhost",
                "is reached by https://",
            ),
            (
                "fulcio=http://fulcio.example\\@localhost",
                "is reached by https://",
            ),
            ("rekor=ftp://x", "is reached by https://"),
            ("token=env:NO_SUCH_VARIABLE_HERE", "there is no variable"),
        ];
        for (spec, want) in cases {
            let error = read(spec).unwrap_err();
            assert!(error.contains(want), "{spec}: {error}");
        }
    }

    #[test]
    fn what_services_say_is_short_and_plain() {
        let said = refusal(400, format!("\u{1b}[31m{}", "x".repeat(1000)).as_bytes());
        assert!(!said.contains('\u{1b}') && said.len() < 350, "{said}");
        assert_eq!(host("https://u:p@h:1/a?b"), "h:1");
    }
}
