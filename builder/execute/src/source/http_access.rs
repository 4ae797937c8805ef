//! What a server of files is told: headers, and what lets the user in.
//!
//! The secrets are those of BuildKit: `HTTP_AUTH_HEADER_HOST` is the header `Authorization`,
//! `HTTP_AUTH_TOKEN_HOST` a bearer's token. A source may name another one, which then has to be there.

use kiln_graph::{HttpSource, Step};
use url::Url;
use zeroize::Zeroizing;

use crate::secret::given;
use crate::{EngineError, SecretProvider};

/// A header and its value.
type Header<'a> = (&'a str, Zeroizing<String>);

/// The headers that a server is sent.
pub(super) fn headers<'a>(
    source: &'a HttpSource,
    secrets: &dyn SecretProvider,
    step: &Step,
) -> Result<Vec<Header<'a>>, EngineError> {
    let own = source.request.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), Zeroizing::new(value.clone())));
    let mut all: Vec<Header<'a>> = own.collect();
    let access = access(source, secrets, step)?;
    all.extend(access.map(|value| ("authorization", value)));
    Ok(all)
}

fn access(
    source: &HttpSource,
    secrets: &dyn SecretProvider,
    step: &Step,
) -> Result<Option<Zeroizing<String>>, EngineError> {
    let location = step.location.as_ref();
    if let Some(name) = &source.request.secret {
        let value = given(secrets, name, true, location)?;
        return value
            .map(|value| value_of(name, value.expose(), false, step))
            .transpose();
    }
    let url = Url::parse(&source.url).ok();
    let Some(host) = url.as_ref().and_then(Url::host_str) else {
        return Ok(None);
    };
    for (kind, is_token) in [("HEADER", false), ("TOKEN", true)] {
        let name = format!("HTTP_AUTH_{kind}_{host}");
        if let Some(value) = given(secrets, &name, false, location)? {
            return value_of(&name, value.expose(), is_token, step).map(Some);
        }
    }
    Ok(None)
}

fn value_of(
    name: &str,
    secret: &[u8],
    is_token: bool,
    step: &Step,
) -> Result<Zeroizing<String>, EngineError> {
    let text = std::str::from_utf8(secret)
        .map(str::trim)
        .unwrap_or_default();
    let is_value = !text.is_empty() && !text.contains(|sign: char| sign.is_control());
    if !is_value {
        return Err(EngineError::Impossible {
            message: format!("the secret '{name}' can't be sent: it isn't one line of text"),
            location: step.location.clone(),
        });
    }
    Ok(Zeroizing::new(match is_token {
        true => format!("Bearer {text}"),
        false => text.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use kiln_graph::{HttpRequest, Op, Platform};

    use crate::{SecretError, SecretValue};

    struct One(&'static str, &'static str);

    impl SecretProvider for One {
        fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
            let value = SecretValue::new(self.1.as_bytes().to_vec());
            Ok((id == self.0).then_some(value))
        }

        fn ssh_agent(&self, _: &str) -> Option<PathBuf> {
            None
        }
    }

    fn told(given: &One, secret: Option<&str>) -> Result<Vec<(String, String)>, EngineError> {
        let source = HttpSource {
            url: "https://files.example:8443/a".to_owned(),
            checksum: None,
            file_name: None,
            request: HttpRequest {
                headers: vec![("accept".to_owned(), "text/plain".to_owned())],
                secret: secret.map(str::to_owned),
            },
        };
        let step = Step::plain("a", Op::Http(source.clone()), Platform::host());
        let headers = headers(&source, given, &step)?;
        let plain = headers.iter();
        Ok(plain
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect())
    }

    #[test]
    fn secrets_are_for_the_server_that_they_are_named_after() {
        let access = |given: &One, secret| told(given, secret).unwrap().get(1).cloned();
        let header = |value: &str| Some(("authorization".to_owned(), value.to_owned()));
        let token = One("HTTP_AUTH_TOKEN_files.example", "t0ken\n");
        assert_eq!(access(&token, None), header("Bearer t0ken"));
        let basic = One("HTTP_AUTH_HEADER_files.example", "Basic abc");
        assert_eq!(access(&basic, None), header("Basic abc"));
        let other = One("HTTP_AUTH_TOKEN_other.example", "t0ken");
        assert_eq!(access(&other, None), None);
        assert_eq!(access(&One("mine", "X y"), Some("mine")), header("X y"));
        assert!(told(&token, Some("mine")).is_err());
        assert!(told(&One("mine", "a\nb"), Some("mine")).is_err());
    }
}
