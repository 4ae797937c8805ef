//! What an entry of Rekor is about: an envelope, and who signed it
//! (<https://github.com/sigstore/rekor/tree/main/pkg/types>: `dsse` of version 0.0.1 and `intoto` of version
//! 0.0.2; <https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md>: `hashedrekord` of version 0.0.2, whose digest
//! is that of what was signed, and `dsse` of version 0.0.2, which logs took in 2025).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, SHA384, SHA512, digest};
use serde_json::Value;

use crate::bundle::{Envelope, bytes, to_be_signed};
use crate::certificate::Certificate;
use crate::{AttestError, pem};

/// The body of an entry, as it is read.
pub(crate) struct EntryBody(pub(crate) Value);

impl EntryBody {
    /// Whether it is of this envelope, signed so with this certificate.
    pub(crate) fn is_of(
        &self,
        envelope: &Envelope,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<bool, AttestError> {
        let is_it = match (self.0["kind"].as_str(), self.0["apiVersion"].as_str()) {
            (Some("dsse"), Some("0.0.1")) => is_dsse,
            (Some("dsse"), Some("0.0.2")) => is_dsse_2,
            (Some("hashedrekord"), Some("0.0.2")) => is_hashed_2,
            (Some("intoto"), Some("0.0.2")) => is_intoto,
            _ => {
                let text = "its entry is of a kind that is not supported";
                return Err(AttestError::Log(text.to_owned()));
            }
        };
        Ok(is_it(
            &self.0["spec"],
            &envelope.payload,
            certificate,
            signature,
        ))
    }
}

fn is_dsse(spec: &Value, payload: &[u8], certificate: &Certificate, signature: &[u8]) -> bool {
    let signature = STANDARD.encode(signature);
    is_hash(&spec["payloadHash"], payload)
        && any(&spec["signatures"], |one| {
            one["signature"] == signature && is_pem(&one["verifier"], certificate)
        })
}

fn is_dsse_2(spec: &Value, payload: &[u8], certificate: &Certificate, signature: &[u8]) -> bool {
    let spec = &spec["dsseV002"];
    is_hash_2(&spec["payloadHash"], payload)
        && any(&spec["signatures"], |one| {
            is_signature_2(one, certificate, signature)
        })
}

/// The digest is of what was signed, by the function that goes with the key.
fn is_hashed_2(spec: &Value, payload: &[u8], certificate: &Certificate, signature: &[u8]) -> bool {
    let spec = &spec["hashedRekordV002"];
    is_hash_2(&spec["data"], &to_be_signed(payload))
        && is_signature_2(&spec["signature"], certificate, signature)
}

fn is_signature_2(one: &Value, certificate: &Certificate, signature: &[u8]) -> bool {
    let verifier = bytes(&one["verifier"]["x509Certificate"]["rawBytes"]);
    one["content"] == STANDARD.encode(signature)
        && verifier.is_some_and(|bytes| certificate.is(&bytes))
}

fn is_hash_2(hash: &Value, of: &[u8]) -> bool {
    let by = match hash["algorithm"].as_str() {
        Some("SHA2_256") => &SHA256,
        Some("SHA2_384") => &SHA384,
        Some("SHA2_512") => &SHA512,
        _ => return false,
    };
    hash["digest"] == STANDARD.encode(digest(by, of))
}

/// The signatures of these are in base64 twice.
fn is_intoto(spec: &Value, payload: &[u8], certificate: &Certificate, signature: &[u8]) -> bool {
    let content = &spec["content"];
    let signature = STANDARD.encode(STANDARD.encode(signature));
    is_hash(&content["payloadHash"], payload)
        && any(&content["envelope"]["signatures"], |one| {
            one["sig"] == signature && is_pem(&one["publicKey"], certificate)
        })
}

fn is_hash(hash: &Value, payload: &[u8]) -> bool {
    hash["algorithm"] == "sha256" && hash["value"] == hex::encode(digest(&SHA256, payload))
}

fn any(signatures: &Value, is_it: impl Fn(&Value) -> bool) -> bool {
    signatures
        .as_array()
        .is_some_and(|all| all.iter().any(is_it))
}

/// Whether a text, which is PEM in base64, is a certificate.
fn is_pem(text: &Value, certificate: &Certificate) -> bool {
    let found = || {
        let text = String::from_utf8(bytes(text)?).ok()?;
        pem::decode(&text).ok()
    };
    found().is_some_and(|(label, bytes)| label == "CERTIFICATE" && certificate.is(&bytes))
}
