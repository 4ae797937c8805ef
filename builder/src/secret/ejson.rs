//! `ejson:FILE#KEY`: a value of an EJSON file (<https://github.com/Shopify/ejson>, format
//! version 1: `EJ[1:encrypter's public key:nonce:box]`, NaCl's crypto_box, base64).
//!
//! The private key is `EJSON_PRIVATE_KEY`, or lies in `EJSON_KEYDIR` (`/opt/ejson/keys`) under
//! the public key's name. KEY may lead into objects: `database.password`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::Aead as _;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use kiln_engine::{SecretError, SecretValue};
use serde_json::Value;

use super::SecretSource;
use super::environment::Environment;

#[derive(Default)]
pub(super) struct Ejson {
    environment: Environment,
}

impl SecretSource for Ejson {
    fn name(&self) -> &'static str {
        "ejson"
    }

    fn fetch(&self, address: &str) -> Result<SecretValue, SecretError> {
        let (file, key) = address
            .split_once('#')
            .ok_or_else(|| SecretError::Address {
                address: address.to_owned(),
                form: "ejson:FILE#KEY",
            })?;
        let text = std::fs::read(file).map_err(SecretError::of_file(file))?;
        let document: Value =
            serde_json::from_slice(&text).map_err(|error| not_json(file, &error))?;
        let found = key
            .split('.')
            .try_fold(&document, |value, part| value.get(part))
            .and_then(Value::as_str)
            .ok_or_else(|| SecretError::NotFound(format!("{file} has no text under '{key}'")))?;
        if !found.starts_with("EJ[") {
            return Ok(SecretValue::new(found.as_bytes().to_vec()));
        }
        let public = document["_public_key"].as_str().unwrap_or_default();
        let value = decrypt(found, &self.private_key(public)?);
        value.map(SecretValue::new).ok_or_else(|| {
            let text = format!("{file}: '{key}' can't be decrypted: wrong private key?");
            SecretError::Denied(text)
        })
    }
}

/// Says where a file stops being JSON, and nothing of what is in it.
fn not_json(file: &str, error: &serde_json::Error) -> SecretError {
    let (line, column) = (error.line(), error.column());
    SecretError::Unsuitable(format!("{file} is not JSON: line {line}, column {column}"))
}

impl Ejson {
    /// One that is told by these variables.
    #[cfg(test)]
    pub(super) fn of(environment: Environment) -> Self {
        Self { environment }
    }

    fn private_key(&self, public: &str) -> Result<SecretKey, SecretError> {
        let text = match self.environment.get("EJSON_PRIVATE_KEY") {
            Some(text) => text,
            None => {
                let directory = self.environment.get("EJSON_KEYDIR");
                let directory = directory.unwrap_or_else(|| "/opt/ejson/keys".to_owned());
                let path = format!("{directory}/{public}");
                std::fs::read_to_string(&path).map_err(|error| {
                    SecretError::NotConfigured(format!(
                        "{path}: {error}; set EJSON_KEYDIR or EJSON_PRIVATE_KEY"
                    ))
                })?
            }
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| {
            let text = "the EJSON private key is not 64 hexadecimal digits";
            SecretError::NotConfigured(text.to_owned())
        })?;
        Ok(SecretKey::from(bytes))
    }
}

fn decrypt(text: &str, key: &SecretKey) -> Option<Vec<u8>> {
    let parts = text.strip_prefix("EJ[1:")?.strip_suffix(']')?;
    let mut parts = parts.split(':').map(|part| STANDARD.decode(part).ok());
    let (public, nonce, sealed) = (parts.next()??, parts.next()??, parts.next()??);
    let public = PublicKey::from(<[u8; 32]>::try_from(public).ok()?);
    let nonce: [u8; 24] = nonce.try_into().ok()?;
    SalsaBox::new(&public, key)
        .decrypt(&nonce.into(), sealed.as_slice())
        .ok()
}

/// A private key, and a value that is encrypted for it.
#[cfg(test)]
pub(super) fn sealed(value: &[u8]) -> (String, String) {
    let (key, other) = (SecretKey::from([7; 32]), SecretKey::from([9; 32]));
    let nonce = [3; 24];
    let sealed = SalsaBox::new(&key.public_key(), &other).encrypt(&nonce.into(), value);
    let encode = |bytes: &[u8]| STANDARD.encode(bytes);
    let text = format!(
        "EJ[1:{}:{}:{}]",
        encode(other.public_key().as_bytes()),
        encode(&nonce),
        encode(&sealed.unwrap_or_default())
    );
    (hex::encode(key.to_bytes()), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_opened_by_its_key_alone() {
        let (_, text) = sealed(b"hunter2");
        let opened = decrypt(&text, &SecretKey::from([7; 32]));
        assert_eq!(opened.as_deref(), Some(&b"hunter2"[..]));
        assert_eq!(decrypt(&text, &SecretKey::from([8; 32])), None);
        assert_eq!(decrypt("EJ[2:a:b:c]", &SecretKey::from([7; 32])), None);
    }
}
