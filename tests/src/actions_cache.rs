//! A cache of GitHub Actions on loopback.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Script;

const SERVER: &str = include_str!("../fixtures/actions_cache.py");

/// A running cache, for as long as it is held.
#[derive(Debug)]
pub struct ActionsCache(Script);

impl ActionsCache {
    /// Starts an empty one.
    #[must_use]
    pub fn start() -> Self {
        Self(Script::python(SERVER))
    }

    /// Its address, as `ACTIONS_RESULTS_URL` has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.0.port())
    }

    /// The token of a workflow: the branches, and whether it may write there.
    #[must_use]
    pub fn token(branches: &[(&str, bool)]) -> String {
        let access = branches.iter().map(|(name, writes)| {
            let permission = if *writes { 3 } else { 1 };
            serde_json::json!({ "Scope": name, "Permission": permission })
        });
        let access = serde_json::Value::from_iter(access).to_string();
        Self::signed(&serde_json::json!({ "ac": access, "exp": 4_000_000_000u64 }))
    }

    /// A token with some claims.
    #[must_use]
    pub fn signed(claims: &serde_json::Value) -> String {
        format!("e30.{}.good", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// The variables of a workflow of the main branch.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("ACTIONS_RESULTS_URL", self.url()),
            (
                "ACTIONS_RUNTIME_TOKEN",
                Self::token(&[("refs/heads/main", true)]),
            ),
        ]
    }

    /// Has it answer something from `/control/`: `keys?prefix=`, `calls`, `fault?limit=&after=&storage=&cut=`,
    /// `drop?prefix=`, `abandon?prefix=`, `expire`.
    pub fn control(&self, what: &str) -> serde_json::Value {
        let answer = self.0.http("POST", &format!("/control/{what}"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// The keys of caches that begin so.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        serde_json::from_value(self.control(&format!("keys?prefix={prefix}"))).unwrap()
    }
}
