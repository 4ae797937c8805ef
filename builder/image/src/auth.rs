//! Answers a registry's challenge (distribution specification; Docker's token authentication).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::client::limited;
use crate::credentials::{self, Credentials};

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer(BTreeMap<String, String>),
}

impl Challenge {
    /// Whether what answers it doesn't go over the network for all to read.
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::Basic => true,
            Self::Bearer(parameters) => parameters
                .get("realm")
                .is_none_or(|realm| realm.to_ascii_lowercase().starts_with("https://")),
        }
    }
}

/// Tokens are no larger, in bytes.
const MOST_TOKEN: usize = 1 << 20;

/// The first challenge that can be answered.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values
        .filter_map(|value| parse(value.to_str().ok()?))
        .next()
}

fn parse(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer(parameters(rest))),
        _ => None,
    }
}

/// `key="value", …`; a quoted value may hold commas.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((key, rest)) = text.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        text = after.trim_start_matches([',', ' ']);
    }
    found
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// The `Authorization` header that answers a challenge; `None` when there is nothing to answer
/// with.
pub(crate) async fn answer(
    http: &reqwest::Client,
    host: &str,
    challenge: &Challenge,
    scope: &str,
) -> reqwest::Result<Option<String>> {
    let credentials = credentials::find(host);
    match challenge {
        Challenge::Basic => Ok(credentials.as_ref().and_then(basic)),
        Challenge::Bearer(parameters) => {
            let Some(realm) = parameters.get("realm") else {
                return Ok(None);
            };
            let service = parameters.get("service").map_or("", String::as_str);
            let request = match &credentials {
                Some(Credentials::IdentityToken(refresh)) => http
                    .post(realm)
                    .body(form(&[
                        ("grant_type", "refresh_token"),
                        ("service", service),
                        ("client_id", "kiln"),
                        ("scope", scope),
                        ("refresh_token", refresh),
                    ]))
                    .header("content-type", "application/x-www-form-urlencoded"),
                other => {
                    let url = format!(
                        "{realm}?{}",
                        form(&[("service", service), ("scope", scope)])
                    );
                    let request = http.get(url);
                    match other.as_ref().and_then(basic) {
                        Some(header) => request.header("authorization", header),
                        None => request,
                    }
                }
            };
            let answer = request.send().await?;
            if !answer.status().is_success() {
                return Ok(None);
            }
            let bytes = limited(answer, MOST_TOKEN).await?.unwrap_or_default();
            let Ok(token) = serde_json::from_slice::<Token>(&bytes) else {
                return Ok(None);
            };
            let token = if token.token.is_empty() {
                token.access_token
            } else {
                token.token
            };
            Ok(Some(format!("Bearer {token}")))
        }
    }
}

fn basic(credentials: &Credentials) -> Option<String> {
    use base64::Engine as _;
    let Credentials::Password { user, password } = credentials else {
        return None;
    };
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {text}"))
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let Some(Challenge::Bearer(parameters)) =
            parse(r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#)
        else {
            panic!("not understood");
        };
        assert_eq!(parameters["realm"], "https://a/t");
        assert_eq!(parameters["scope"], "repository:x:pull,push");
        assert!(parse("Bearer realm=\"https://a/t\"").is_some_and(|it| it.is_encrypted()));
        assert!(parse("Bearer realm=\"http://a/t\"").is_some_and(|it| !it.is_encrypted()));
        assert_eq!(parse("Basic realm=x"), Some(Challenge::Basic));
        assert_eq!(parse("Negotiate"), None);
    }
}
