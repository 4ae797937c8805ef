//! What a workflow's token says of itself: a JSON Web Token (RFC 7519) whose claim `ac` is a JSON list of the branches
//! that its caches belong to, with what the workflow may do there. It isn't verified: the service does that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The bit of a permission that allows to write.
const WRITE: u32 = 2;

/// What is known of a token; nothing of one that isn't GitHub's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// The branches whose caches can be read, the one that is written to first.
    pub(super) branches: Vec<String>,
    /// Whether there are branches, and none may be written to.
    pub(super) is_read_only: bool,
    /// When it ends, in seconds since 1970.
    pub(super) expires: Option<u64>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    ac: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Access {
    scope: String,
    permission: u32,
}

impl Claims {
    pub(super) fn of(token: &str) -> Self {
        Self::read(token).unwrap_or_default()
    }

    fn read(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let payload: Payload = serde_json::from_slice(&payload).ok()?;
        let access: Vec<Access> = payload
            .ac
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let (own, other): (Vec<_>, Vec<_>) = access
            .into_iter()
            .partition(|access| access.permission & WRITE != 0);
        Some(Self {
            is_read_only: own.is_empty() && !other.is_empty(),
            branches: own
                .into_iter()
                .chain(other)
                .map(|access| access.scope)
                .collect(),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is a time"
            )]
            expires: payload.exp.map(|seconds| seconds as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn tokens_of_workflows() {
        let ac = r#"[{\"Scope\":\"refs/heads/main\",\"Permission\":1},{\"Scope\":\"refs/pull/1/merge\",\"Permission\":3}]"#;
        let claims = Claims::of(&token(&format!("{{\"ac\":\"{ac}\",\"exp\":7.0}}")));
        assert_eq!(claims.branches, ["refs/pull/1/merge", "refs/heads/main"]);
        assert_eq!((claims.expires, claims.is_read_only), (Some(7), false));
        let fork = Claims::of(&token(
            r#"{"ac":"[{\"Scope\":\"refs/heads/main\",\"Permission\":1}]"}"#,
        ));
        assert!(fork.is_read_only);
    }

    #[test]
    fn other_tokens_say_nothing() {
        for text in [
            "",
            "opaque",
            "a.b",
            "a.!!.c",
            &token("{}"),
            &token("[]"),
            &token("{\"ac\":\"{\"}"),
            &token("{\"ac\":7}"),
        ] {
            let claims = Claims::of(text);
            assert!(claims.branches.is_empty() && !claims.is_read_only, "{text}");
        }
    }
}
