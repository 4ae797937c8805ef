//! `ejson:FILE#KEY`: a value of an EJSON file (<https://github.com/Shopify/ejson>, format
//! version 1: `EJ[1:encrypter's public key:nonce:box]`, NaCl's crypto_box, base64).
//!
//! The private key is `EJSON_PRIVATE_KEY`, or lies in `EJSON_KEYDIR` (`/opt/ejson/keys`) under
//! the public key's name. KEY may lead into objects: `database.password`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::Aead as _;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use kiln_engine::SecretValue;
use serde_json::Value;

use super::SecretSource;

pub(super) struct Ejson;

impl SecretSource for Ejson {
    fn name(&self) -> &'static str {
        "ejson"
    }

    fn fetch(&self, address: &str) -> Result<SecretValue, String> {
        let (file, key) = address
            .split_once('#')
            .ok_or_else(|| format!("{address}: write ejson:FILE#KEY"))?;
        let text = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        let document: Value =
            serde_json::from_slice(&text).map_err(|error| format!("{file}: {error}"))?;
        let found = key
            .split('.')
            .try_fold(&document, |value, part| value.get(part))
            .and_then(Value::as_str)
            .ok_or_else(|| format!("{file} has no text under '{key}'"))?;
        if !found.starts_with("EJ[") {
            return Ok(SecretValue::new(found.as_bytes().to_vec()));
        }
        let public = document["_public_key"].as_str().unwrap_or_default();
        let value = decrypt(found, &private_key(public)?);
        value
            .map(SecretValue::new)
            .ok_or_else(|| format!("{file}: '{key}' can't be decrypted: wrong private key?"))
    }
}

fn private_key(public: &str) -> Result<SecretKey, String> {
    let text = match std::env::var("EJSON_PRIVATE_KEY") {
        Ok(text) => text,
        Err(_) => {
            let directory =
                std::env::var("EJSON_KEYDIR").unwrap_or_else(|_| "/opt/ejson/keys".to_owned());
            let path = format!("{directory}/{public}");
            std::fs::read_to_string(&path).map_err(|error| {
                format!("{path}: {error}; set EJSON_KEYDIR or EJSON_PRIVATE_KEY")
            })?
        }
    };
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .map_err(|_| "the EJSON private key is not 64 hexadecimal digits".to_owned())?;
    Ok(SecretKey::from(bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_opened_by_its_key_alone() {
        let (key, other) = (SecretKey::from([7; 32]), SecretKey::from([9; 32]));
        let nonce = [3; 24];
        let sealed = SalsaBox::new(&key.public_key(), &other)
            .encrypt(&nonce.into(), b"hunter2".as_slice())
            .unwrap();
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let text = format!(
            "EJ[1:{}:{}:{}]",
            encode(other.public_key().as_bytes()),
            encode(&nonce),
            encode(&sealed)
        );
        assert_eq!(decrypt(&text, &key).as_deref(), Some(&b"hunter2"[..]));
        assert_eq!(decrypt(&text, &SecretKey::from([8; 32])), None);
        assert_eq!(decrypt("EJ[2:a:b:c]", &key), None);
    }
}
