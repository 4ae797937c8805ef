//! Tokens of identity providers (OpenID Connect Core, section 2; a JSON Web Token, RFC 7519). Whether one is
//! genuine is the business of whoever issues a certificate for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::AttestError;

/// A token that is longer is none.
const MAX_TOKEN: usize = 64 << 10;

/// A token.
#[derive(Clone)]
pub struct IdentityToken {
    text: Zeroizing<String>,
    subject: String,
    expires: Option<u64>,
}

impl std::fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityToken")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: Value,
    exp: Option<f64>,
}

impl IdentityToken {
    /// Reads a token.
    ///
    /// # Errors
    /// When it is none, or names nobody.
    pub fn read(text: &str) -> Result<Self, AttestError> {
        let bad = |reason: &str| AttestError::Token(reason.to_owned());
        let text = text.trim();
        let parts: Vec<&str> = text.split('.').collect();
        let [_, claims, _] = parts[..] else {
            return Err(bad("it is no JSON Web Token"));
        };
        if text.len() > MAX_TOKEN {
            return Err(bad("it is too long"));
        }
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='));
        let claims = claims.map_err(|_| bad("it is no JSON Web Token"))?;
        let claims: Claims =
            serde_json::from_slice(&claims).map_err(|_| bad("its claims can't be read"))?;
        let is_verified = claims.email_verified == true || claims.email_verified == "true";
        let subject = match is_verified && !claims.email.is_empty() {
            true => claims.email,
            false => claims.sub,
        };
        if subject.is_empty() {
            return Err(bad("it names nobody (no 'sub', no verified 'email')"));
        }
        Ok(Self {
            text: Zeroizing::new(text.to_owned()),
            subject,
            expires: claims.exp.map(|seconds| seconds.max(0.0) as u64),
        })
    }

    /// Whom it names: an address of mail that is verified, else the subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether it still counts at a time, in seconds since 1970.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn check(&self, now: u64) -> Result<(), AttestError> {
        match self.expires {
            Some(expires) if expires <= now => {
                let ago = now - expires;
                let text = format!("it expired {ago} seconds ago");
                Err(AttestError::Token(text))
            }
            _ => Ok(()),
        }
    }

    /// The token itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn token(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.x", part("{}"), part(&claims.to_string()))
    }

    #[test]
    fn whom_tokens_name() {
        let cases = [
            (json!({"sub": "a"}), Some("a")),
            (
                json!({"sub": "a", "email": "a@b", "email_verified": true}),
                Some("a@b"),
            ),
            (
                json!({"sub": "a", "email": "a@b", "email_verified": "true"}),
                Some("a@b"),
            ),
            (json!({"sub": "a", "email": "a@b"}), Some("a")),
            (json!({"email": "a@b"}), None),
            (json!({"sub": 1}), None),
            (json!([]), None),
        ];
        for (claims, want) in cases {
            let read = IdentityToken::read(&format!("{}\n", token(&claims)));
            assert_eq!(
                read.ok().as_ref().map(IdentityToken::subject),
                want,
                "{claims}"
            );
        }
        for garbage in ["", "x", "..", "a.b.c", "a.!.c", &"a.".repeat(9)] {
            let error = IdentityToken::read(garbage).unwrap_err().to_string();
            assert!(error.contains("identity token"), "{error}");
        }
    }

    #[test]
    fn tokens_expire_and_are_not_shown() {
        let text = token(&json!({"sub": "a", "exp": 100}));
        let read = IdentityToken::read(&text).unwrap();
        assert_eq!(read.check(99), Ok(()));
        let error = read.check(130).unwrap_err().to_string();
        assert!(error.contains("expired 30 seconds ago"), "{error}");
        assert!(!format!("{read:?}").contains(&text));
        let open = IdentityToken::read(&token(&json!({"sub": "a"}))).unwrap();
        assert_eq!(open.check(u64::MAX), Ok(()));
    }
}
