//! Keys of transparency logs: ECDSA over P-256, or Ed25519, which Rekor's second version has.

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::{AttestError, PublicKey, pem};

/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const ED25519_PREFIX: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The key of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogKey {
    P256(PublicKey),
    Ed25519([u8; 32]),
}

impl LogKey {
    /// Reads a key in PEM.
    pub(crate) fn read(text: &str) -> Result<Self, AttestError> {
        let (label, bytes) = pem::decode(text)?;
        match Self::from_info(&bytes) {
            Some(key) if label == "PUBLIC KEY" => Ok(key),
            _ => PublicKey::read(text).map(Self::P256),
        }
    }

    /// Reads a SubjectPublicKeyInfo; `None` when it is a key of another kind.
    pub(crate) fn from_info(bytes: &[u8]) -> Option<Self> {
        let ed25519 = bytes.strip_prefix(ED25519_PREFIX);
        match ed25519.and_then(|key| key.try_into().ok()) {
            Some(key) => Some(Self::Ed25519(key)),
            None => PublicKey::from_info(bytes).map(Self::P256),
        }
    }

    /// Whether it has signed a message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        match self {
            Self::P256(key) => key.verify(message, signature),
            Self::Ed25519(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                key.verify(message, signature)
                    .map_err(|_| AttestError::Signature)
            }
        }
    }
}
