//! What an entry of Rekor is about: an envelope, and who signed it
//! (<https://github.com/sigstore/rekor/tree/main/pkg/types>: `dsse` of version 0.0.1 and `intoto` of version
//! 0.0.2; <https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md>: `dsse` of version 0.0.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_graph::BlobDigest;
use serde_json::Value;

use crate::bundle::{Envelope, bytes};
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
        let payload = BlobDigest::of(&envelope.payload);
        let is_it = match (self.0["kind"].as_str(), self.0["apiVersion"].as_str()) {
            (Some("dsse"), Some("0.0.1")) => is_dsse,
            (Some("dsse"), Some("0.0.2")) => is_dsse_2,
            (Some("intoto"), Some("0.0.2")) => is_intoto,
            _ => {
                let text = "its entry is of a kind that is not supported";
                return Err(AttestError::Log(text.to_owned()));
            }
        };
        Ok(is_it(&self.0["spec"], &payload, certificate, signature))
    }
}

fn is_dsse(
    spec: &Value,
    payload: &BlobDigest,
    certificate: &Certificate,
    signature: &[u8],
) -> bool {
    let signature = STANDARD.encode(signature);
    is_hash(&spec["payloadHash"], payload)
        && any(&spec["signatures"], |one| {
            one["signature"] == signature && is_pem(&one["verifier"], certificate)
        })
}

fn is_dsse_2(
    spec: &Value,
    payload: &BlobDigest,
    certificate: &Certificate,
    signature: &[u8],
) -> bool {
    let spec = &spec["dsseV002"];
    let signature = STANDARD.encode(signature);
    spec["payloadHash"]["algorithm"] == "SHA2_256"
        && spec["payloadHash"]["digest"] == STANDARD.encode(payload.as_bytes())
        && any(&spec["signatures"], |one| {
            let verifier = bytes(&one["verifier"]["x509Certificate"]["rawBytes"]);
            one["content"] == signature && verifier.is_some_and(|bytes| certificate.is(&bytes))
        })
}

/// The signatures of these are in base64 twice.
fn is_intoto(
    spec: &Value,
    payload: &BlobDigest,
    certificate: &Certificate,
    signature: &[u8],
) -> bool {
    let content = &spec["content"];
    let signature = STANDARD.encode(STANDARD.encode(signature));
    is_hash(&content["payloadHash"], payload)
        && any(&content["envelope"]["signatures"], |one| {
            one["sig"] == signature && is_pem(&one["publicKey"], certificate)
        })
}

fn is_hash(hash: &Value, payload: &BlobDigest) -> bool {
    hash["algorithm"] == "sha256" && hash["value"] == payload.hex()
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
