//! `vault:PATH#FIELD`: HashiCorp Vault's key-value store, version 2
//! (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>).
//!
//! `VAULT_ADDR` says where it is, `VAULT_TOKEN` or `~/.vault-token` lets us in, `VAULT_NAMESPACE`
//! is passed on. The first part of PATH is the mount.

use std::time::Duration;

use kiln_engine::{SecretError, SecretValue};
use kiln_image::Client;

use super::SecretSource;
use super::environment::Environment;

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Vault {
    client: Client,
    environment: Environment,
}

impl SecretSource for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn fetch(&self, address: &str) -> Result<SecretValue, SecretError> {
        let wrong = |form| SecretError::Address {
            address: address.to_owned(),
            form,
        };
        let named = address.split_once('#');
        let (path, field) = named.ok_or_else(|| wrong("vault:PATH#FIELD"))?;
        let mounted = path.split_once('/');
        let mounted = mounted.ok_or_else(|| wrong("MOUNT/PATH#FIELD, such as secret/app#key"));
        let (mount, name) = mounted?;
        let server = self.environment.get("VAULT_ADDR").ok_or_else(|| {
            let text = "set VAULT_ADDR to the server's address, such as https://vault.example:8200";
            SecretError::NotConfigured(text.to_owned())
        })?;
        let url = format!("{}/v1/{mount}/data/{name}", server.trim_end_matches('/'));
        let header = |name: &str, value| (name.to_owned(), value);
        let mut headers = vec![header("X-Vault-Token", self.token()?)];
        let namespace = self.environment.get("VAULT_NAMESPACE");
        headers.extend(namespace.map(|name| header("X-Vault-Namespace", name)));
        let answer = self.client.get(&url, &headers, TIMEOUT);
        let answer = answer.map_err(|error| SecretError::Unreachable(error.to_string()))?;
        match answer.status {
            200 => field_of(&answer.body, path, field),
            status => Err(refusal(status, &server, path)),
        }
    }
}

impl Vault {
    /// One that is told by these variables.
    #[cfg(test)]
    pub(super) fn of(environment: Environment) -> Self {
        Self {
            environment,
            ..Self::default()
        }
    }

    fn token(&self) -> Result<String, SecretError> {
        if let Some(token) = self.environment.get("VAULT_TOKEN") {
            return Ok(token);
        }
        let read = std::fs::read_to_string(self.environment.home(".vault-token"));
        read.map(|text| text.trim().to_owned()).map_err(|_| {
            let text = "set VAULT_TOKEN, or log in so that ~/.vault-token exists";
            SecretError::NotConfigured(text.to_owned())
        })
    }
}

/// What a status that isn't 200 means.
fn refusal(status: u16, server: &str, path: &str) -> SecretError {
    match status {
        403 => SecretError::Denied(format!(
            "{server} refuses the token for {path} (status 403)"
        )),
        404 => SecretError::NotFound(format!("{server} has nothing at {path} (status 404)")),
        // The token is for the server that the user named.
        301..=308 => SecretError::Unreachable(format!(
            "{server} sends kiln to another server (status {status}), which isn't given the token: set VAULT_ADDR to that one"
        )),
        _ => SecretError::Unreachable(format!("{server} answered with status {status} for {path}")),
    }
}

fn field_of(body: &[u8], path: &str, field: &str) -> Result<SecretValue, SecretError> {
    let answer: serde_json::Value = serde_json::from_slice(body).map_err(|_| {
        let text = format!("the answer for {path} is not JSON: is this Vault's KV version 2?");
        SecretError::Unreachable(text)
    })?;
    match &answer["data"]["data"][field] {
        serde_json::Value::Null => {
            let text = format!("{path} has no field '{field}'");
            Err(SecretError::NotFound(text))
        }
        serde_json::Value::String(text) => Ok(SecretValue::new(text.clone().into_bytes())),
        other => Ok(SecretValue::new(other.to_string().into_bytes())),
    }
}
