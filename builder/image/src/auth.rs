//! Answers a registry's challenge (distribution specification; Docker's token authentication).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::answer_body::limited;
use crate::blocking::on_own_thread;
use crate::credentials::{self, CredentialSource, Credentials, Logins, WantedToken};

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
const MAX_TOKEN: usize = 1 << 20;

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

#[derive(Default, Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// What came of a challenge.
pub(crate) struct Answered {
    /// The `Authorization` header; `None` when there is nothing to answer with.
    pub(crate) header: Option<String>,
    /// Why the user's credentials, or a token for them, can't be had.
    pub(crate) problem: Option<String>,
}

/// Answers a challenge: with the user's credentials, or as anybody.
pub(crate) async fn answer(
    http: &reqwest::Client,
    host: &str,
    challenge: &Challenge,
    scopes: &[String],
    (source, logins): (&CredentialSource, &Logins),
) -> reqwest::Result<Answered> {
    match fetched_elsewhere(host, challenge, scopes, source) {
        Ok(None) => {}
        Ok(Some(token)) => {
            return Ok(Answered {
                header: Some(format!("Bearer {token}")),
                problem: None,
            });
        }
        Err(problem) => {
            return Ok(Answered {
                header: None,
                problem: Some(problem),
            });
        }
    }
    // A helper is a program that may ask the user.
    let found = on_own_thread(|| credentials::find(host, source, logins));
    let (credentials, problem) = match found {
        Ok(found) => (found, None),
        Err(problem) => (None, Some(problem)),
    };
    match challenge {
        Challenge::Basic => Ok(Answered {
            header: credentials.as_ref().and_then(basic),
            problem,
        }),
        Challenge::Bearer(parameters) => {
            let (header, refused) = bearer(http, parameters, credentials.as_ref(), scopes).await?;
            Ok(Answered {
                header,
                problem: problem.or(refused),
            })
        }
    }
}

/// The token that a challenge asks for, where somebody else fetches it.
fn fetched_elsewhere(
    host: &str,
    challenge: &Challenge,
    scopes: &[String],
    source: &CredentialSource,
) -> Result<Option<String>, String> {
    let (CredentialSource::Provider(provider), Challenge::Bearer(parameters)) = (source, challenge)
    else {
        return Ok(None);
    };
    let Some(realm) = parameters.get("realm") else {
        return Ok(None);
    };
    let wanted = WantedToken {
        host,
        realm,
        service: parameters.get("service").map_or("", String::as_str),
        scopes,
    };
    on_own_thread(|| provider.0.token(&wanted))
}

/// A token, or why there is none.
async fn bearer(
    http: &reqwest::Client,
    parameters: &BTreeMap<String, String>,
    credentials: Option<&Credentials>,
    scopes: &[String],
) -> reqwest::Result<(Option<String>, Option<String>)> {
    let Some(realm) = parameters.get("realm") else {
        return Ok((None, None));
    };
    let service = parameters.get("service").map_or("", String::as_str);
    let answer = token_request(http, realm, service, credentials, scopes);
    let answer = answer.send().await?;
    let status = answer.status();
    if !status.is_success() {
        let by = answer.url().host_str().unwrap_or_default();
        let problem = credentials.map(|_| format!("{by} gives no token for them ({status})"));
        return Ok((None, problem));
    }
    let bytes = limited(answer, MAX_TOKEN).await?.unwrap_or_default();
    let token = serde_json::from_slice::<Token>(&bytes).unwrap_or_default();
    let token = if token.token.is_empty() {
        token.access_token
    } else {
        token.token
    };
    Ok(((!token.is_empty()).then(|| format!("Bearer {token}")), None))
}

fn token_request(
    http: &reqwest::Client,
    realm: &str,
    service: &str,
    credentials: Option<&Credentials>,
    scopes: &[String],
) -> reqwest::RequestBuilder {
    if let Some(Credentials::IdentityToken(refresh)) = credentials {
        return http
            .post(realm)
            .body(form(&[
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", "kiln"),
                ("scope", &scopes.join(" ")),
                ("refresh_token", refresh),
            ]))
            .header("content-type", "application/x-www-form-urlencoded");
    }
    let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
    let pairs: Vec<(&str, &str)> = [("service", service)].into_iter().chain(scopes).collect();
    let join = if realm.contains('?') { '&' } else { '?' };
    let request = http.get(format!("{realm}{join}{}", form(&pairs)));
    match credentials.and_then(basic) {
        Some(header) => request.header("authorization", header),
        None => request,
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
