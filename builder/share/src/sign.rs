//! Signed entries: who may write what others take for true. Ed25519 (RFC 8032) over the entry's
//! name, a zero byte and its bytes; a signed entry is `{"signed": TEXT, "by": KEY, "signature":
//! HEX}` with the entry as TEXT.

use std::sync::Arc;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Signed {
    signed: String,
    by: String,
    signature: String,
}

/// Why an entry is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A key is not 64 hexadecimal digits.
    #[error("a key is 64 hexadecimal digits, such as 'openssl rand -hex 32' gives")]
    Key,
    /// The entry has no signature of a trusted key.
    #[error("{0} is not signed by a trusted key")]
    Untrusted(String),
    /// The entry was changed after it was signed.
    #[error("the signature of {0} is wrong: it was changed on the way, or forged")]
    Forged(String),
}

/// Signs entries.
#[derive(Clone, Debug)]
pub struct CacheSigner(Arc<Ed25519KeyPair>);

impl CacheSigner {
    /// A signer with a secret key of 64 hexadecimal digits.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn new(key: &str) -> Result<Self, SignatureError> {
        let key = Ed25519KeyPair::from_seed_unchecked(&bytes(key)?);
        Ok(Self(Arc::new(key.map_err(|_| SignatureError::Key)?)))
    }

    /// The key that others trust.
    #[must_use]
    pub fn public_key(&self) -> String {
        hex::encode(self.0.public_key())
    }

    /// A signed entry.
    #[must_use]
    pub fn sign(&self, name: &str, entry: &str) -> Vec<u8> {
        let signed = Signed {
            signed: entry.to_owned(),
            by: self.public_key(),
            signature: hex::encode(self.0.sign(&message(name, entry))),
        };
        serde_json::to_vec(&signed).unwrap_or_default()
    }
}

/// The keys whose entries are taken; without any, every entry is.
#[derive(Clone, Debug, Default)]
pub struct CacheTrust(Vec<[u8; 32]>);

impl CacheTrust {
    /// Trusts one more public key.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn add(&mut self, key: &str) -> Result<(), SignatureError> {
        self.0.push(bytes(key)?);
        Ok(())
    }

    /// The entry in what a remote gave.
    ///
    /// # Errors
    /// When it is not to be trusted.
    pub fn open(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let Ok(signed) = serde_json::from_slice::<Signed>(text) else {
            return match self.0.is_empty() {
                true => Ok(text.to_vec()),
                false => Err(SignatureError::Untrusted(name.to_owned())),
            };
        };
        if !self.0.is_empty() {
            self.verify(name, &signed)?;
        }
        Ok(signed.signed.into_bytes())
    }

    fn verify(&self, name: &str, signed: &Signed) -> Result<(), SignatureError> {
        let is_its = |key: &&[u8; 32]| hex::encode(key) == signed.by;
        let key = self.0.iter().find(is_its);
        let key = key.ok_or_else(|| SignatureError::Untrusted(name.to_owned()))?;
        let forged = || SignatureError::Forged(name.to_owned());
        let signature = hex::decode(&signed.signature).map_err(|_| forged())?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&message(name, &signed.signed), &signature)
            .map_err(|_| forged())
    }
}

fn message(name: &str, entry: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0", entry.as_bytes()].concat()
}

fn bytes(key: &str) -> Result<[u8; 32], SignatureError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(key.trim(), &mut bytes).map_err(|_| SignatureError::Key)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_signatures_are_those_of_rfc_8032() {
        // Section 7.1, test 1: the message there is empty, here a name, a zero byte and an entry.
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let signer = CacheSigner::new(secret).unwrap();
        assert_eq!(signer.public_key(), public);
        let signature = signer.0.sign(b"");
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                        5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(hex::encode(signature), expected);
    }

    #[test]
    fn only_what_trusted_keys_signed_is_taken() {
        let [own, other] = ["11", "22"].map(|byte| CacheSigner::new(&byte.repeat(32)).unwrap());
        let mut trust = CacheTrust::default();
        let signed = own.sign("a", "{}");
        assert_eq!(trust.open("a", &signed), Ok(b"{}".to_vec()), "nobody asked");
        assert_eq!(trust.open("a", b"{}"), Ok(b"{}".to_vec()));
        trust.add(&own.public_key()).unwrap();
        assert_eq!(trust.open("a", &signed), Ok(b"{}".to_vec()));
        let untrusted = Err(SignatureError::Untrusted("a".to_owned()));
        assert_eq!(trust.open("a", &other.sign("a", "{}")), untrusted);
        assert_eq!(trust.open("a", b"{}"), untrusted);
        let forged = |text: &str| text.replace("{}", "[]").into_bytes();
        let forged = forged(&String::from_utf8(signed.clone()).unwrap());
        assert_eq!(
            trust.open("a", &forged),
            Err(SignatureError::Forged("a".to_owned()))
        );
        let moved = trust.open("b", &signed);
        assert_eq!(
            moved,
            Err(SignatureError::Forged("b".to_owned())),
            "under another name"
        );
        assert_eq!(CacheSigner::new("short").err(), Some(SignatureError::Key));
    }
}
