//! `vault:PATH#FIELD`: HashiCorp Vault's key-value store, version 2
//! (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>).
//!
//! `VAULT_ADDR` says where it is, `VAULT_TOKEN` or `~/.vault-token` lets us in, `VAULT_NAMESPACE`
//! is passed on. The first part of PATH is the mount.

use kiln_engine::SecretValue;
use kiln_image::Client;

use super::SecretSource;

#[derive(Default)]
pub(super) struct Vault {
    client: Client,
}

impl SecretSource for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn fetch(&self, address: &str) -> Result<SecretValue, String> {
        let (path, field) = address
            .split_once('#')
            .ok_or_else(|| format!("{address}: write vault:PATH#FIELD"))?;
        let (mount, name) = path
            .split_once('/')
            .ok_or_else(|| format!("{path}: write MOUNT/PATH, such as secret/app"))?;
        let server = variable("VAULT_ADDR")
            .ok_or("set VAULT_ADDR to the server's address, such as https://vault.example:8200")?;
        let url = format!("{}/v1/{mount}/data/{name}", server.trim_end_matches('/'));
        let mut headers = vec![("X-Vault-Token", token()?)];
        headers.extend(variable("VAULT_NAMESPACE").map(|name| ("X-Vault-Namespace", name)));
        let (status, body) = self
            .client
            .get(&url, &headers)
            .map_err(|error| error.to_string())?;
        match status {
            200 => field_of(&body, path, field),
            403 => Err(format!(
                "{server} refuses the token for {path} (status 403)"
            )),
            404 => Err(format!("{server} has nothing at {path} (status 404)")),
            other => Err(format!("{server} answered with status {other} for {path}")),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn token() -> Result<String, String> {
    if let Some(token) = variable("VAULT_TOKEN") {
        return Ok(token);
    }
    let home = variable("HOME").unwrap_or_default();
    let read = std::fs::read_to_string(format!("{home}/.vault-token"));
    read.map(|text| text.trim().to_owned())
        .map_err(|_| "set VAULT_TOKEN, or log in so that ~/.vault-token exists".to_owned())
}

fn field_of(body: &[u8], path: &str, field: &str) -> Result<SecretValue, String> {
    let answer: serde_json::Value = serde_json::from_slice(body)
        .map_err(|_| format!("the answer for {path} is not JSON: is this Vault's KV version 2?"))?;
    match &answer["data"]["data"][field] {
        serde_json::Value::Null => Err(format!("{path} has no field '{field}'")),
        serde_json::Value::String(text) => Ok(SecretValue::new(text.clone().into_bytes())),
        other => Ok(SecretValue::new(other.to_string().into_bytes())),
    }
}
