//! Keys that sign and verify: ECDSA over P-256 with SHA-256, signatures in DER, which is what
//! cosign makes and what every verifier of Sigstore bundles reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::{AttestError, pem, sealed_key};

/// What stands before the point in a P-256 key's SubjectPublicKeyInfo (RFC 5480, section 2).
const SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point, in bytes.
const POINT: usize = 65;

/// A key that signs.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public())
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key, which is kept nowhere.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, AttestError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let document = document.map_err(|_| no_random_numbers())?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key: PKCS#8, or encrypted as cosign does, in PEM.
    ///
    /// # Errors
    /// When it is no such key, or the password is missing or wrong.
    pub fn read(text: &str, password: Option<&str>) -> Result<Self, AttestError> {
        let (label, bytes) = pem::decode(text)?;
        let bytes = Zeroizing::new(bytes);
        match label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&bytes),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let password = password.ok_or(AttestError::Password)?;
                Self::from_pkcs8(&sealed_key::open(&bytes, password)?)
            }
            "EC PRIVATE KEY" => Err(AttestError::Key(
                "OpenSSL's traditional format is not supported: convert it with 'openssl pkcs8 -topk8 -nocrypt -in KEY'".to_owned(),
            )),
            "ENCRYPTED PRIVATE KEY" => Err(AttestError::Key(
                "encrypted PKCS#8 is not supported: decrypt it with 'openssl pkcs8 -in KEY', or import it with 'cosign import-key-pair'".to_owned(),
            )),
            other => Err(AttestError::Key(format!("it is a {other}, not a private key"))),
        }
    }

    fn from_pkcs8(bytes: &[u8]) -> Result<Self, AttestError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes, &random)
            .map_err(|error| {
                AttestError::Key(format!("not an ECDSA P-256 key in PKCS#8 ({error})"))
            })?;
        Ok(Self { pair, random })
    }

    /// The signature of a message, in DER.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AttestError> {
        let signature = self.pair.sign(&self.random, message);
        let signature = signature.map_err(|_| no_random_numbers())?;
        Ok(signature.as_ref().to_vec())
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey {
            point: self.pair.public_key().as_ref().to_vec(),
        }
    }
}

fn no_random_numbers() -> AttestError {
    AttestError::Key("the system gives no random numbers".to_owned())
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PublicKey").field(&self.hint()).finish()
    }
}

impl PublicKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// When it is no public ECDSA key over P-256.
    pub fn read(text: &str) -> Result<Self, AttestError> {
        let (label, bytes) = pem::decode(text)?;
        if label != "PUBLIC KEY" {
            return Err(AttestError::Key(format!(
                "it is a {label}, not a public key"
            )));
        }
        Self::from_info(&bytes).ok_or_else(|| {
            AttestError::Key("not an ECDSA P-256 key, the only supported kind".to_owned())
        })
    }

    /// Reads a SubjectPublicKeyInfo; `None` when it is a key of another kind.
    pub(crate) fn from_info(bytes: &[u8]) -> Option<Self> {
        let point = bytes.strip_prefix(SPKI_PREFIX)?;
        let point = Some(point).filter(|point| point.len() == POINT && point[0] == 4)?;
        Some(Self {
            point: point.to_vec(),
        })
    }

    /// The key as a SubjectPublicKeyInfo.
    pub(crate) fn info(&self) -> Vec<u8> {
        [SPKI_PREFIX, &self.point].concat()
    }

    /// The key in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.info())
    }

    /// What bundles name the key by: the SHA-256 of its SubjectPublicKeyInfo, in base64.
    #[must_use]
    pub fn hint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.info());
        STANDARD.encode(digest)
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// When it isn't one of this message by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
            .verify(message, signature)
            .map_err(|_| AttestError::Signature)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;

    pub(crate) fn openssl(directory: &std::path::Path, args: &str) {
        let output = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{args}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A new key, made in a directory.
    pub(crate) fn new_key(directory: &std::path::Path) -> SigningKey {
        openssl(
            directory,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
        );
        let text = std::fs::read_to_string(directory.join("key.pem")).unwrap();
        SigningKey::read(&text, None).unwrap()
    }

    #[test]
    fn openssl_makes_keys_and_agrees_with_signatures() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let key = new_key(directory);
        openssl(directory, "pkey -in key.pem -pubout -out pub.pem");
        let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        let public = PublicKey::read(&text("pub.pem")).unwrap();
        assert_eq!(public, key.public());
        assert_eq!(public.to_pem(), text("pub.pem"));
        let signature = key.sign(b"message").unwrap();
        std::fs::write(directory.join("m"), "message").unwrap();
        std::fs::write(directory.join("s"), &signature).unwrap();
        openssl(directory, "dgst -sha256 -verify pub.pem -signature s m");
        assert_eq!(public.verify(b"message", &signature), Ok(()));
        assert_eq!(
            public.verify(b"another", &signature),
            Err(AttestError::Signature)
        );
    }

    #[test]
    fn other_keys_are_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        openssl(
            directory,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem",
        );
        openssl(directory, "ecparam -genkey -name prime256v1 -out old.pem");
        openssl(directory, "pkey -in p384.pem -pubout -out pub.pem");
        let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        let why = |name: &str| SigningKey::read(&text(name), None).unwrap_err().to_string();
        assert!(why("p384.pem").contains("not an ECDSA P-256 key"));
        assert!(why("old.pem").contains("openssl pkcs8"));
        assert!(why("pub.pem").contains("not a private key"));
        assert!(PublicKey::read(&text("pub.pem")).is_err());
        assert!(
            PublicKey::read("x")
                .unwrap_err()
                .to_string()
                .contains("PEM")
        );
    }
}
