//! Rekor's API, of its first version (<https://github.com/sigstore/rekor/blob/main/openapi.yaml>) and its second
//! (<https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::bundle;
use crate::certificate::Certificate;
use crate::{AttestError, pem};

const UNREADABLE: AttestError = AttestError::Answer("it has no entry of a log");

/// A version of Rekor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogVersion {
    /// The first, which says times.
    #[default]
    V1,
    /// The second, whose entries need the time of an authority.
    V2,
}

impl LogVersion {
    /// Where entries are made, below Rekor's address.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => "/api/v1/log/entries",
            Self::V2 => "/api/v2/log/entries",
        }
    }

    /// Where an entry is that is there already, below Rekor's address: the first version answers a request for it
    /// by 409 and its location.
    #[must_use]
    pub fn existing(self, location: &str) -> Option<String> {
        let path = location.split(['?', '#']).next()?;
        let id = path.trim_end_matches('/').rsplit('/').next()?;
        let is_id = matches!(id.len(), 64 | 80) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (self == Self::V1 && is_id).then(|| format!("{}/{id}", self.path()))
    }

    /// What asks for an entry of a statement's envelope, which was signed with a certificate. The second version
    /// knows no envelopes, only the digest of what was signed.
    pub(super) fn request(
        self,
        statement: &[u8],
        signature: &[u8],
        certificate: &Certificate,
    ) -> Vec<u8> {
        let bytes = certificate.as_bytes();
        let request = match self {
            Self::V1 => json!({
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {"proposedContent": {
                    "envelope": bundle::envelope(statement, signature).to_string(),
                    "verifiers": [STANDARD.encode(pem::encode("CERTIFICATE", bytes))],
                }},
            }),
            Self::V2 => json!({"hashedRekordRequestV002": {
                "digest": STANDARD.encode(digest(&SHA256, &bundle::to_be_signed(statement))),
                "signature": {
                    "content": STANDARD.encode(signature),
                    "verifier": {
                        "x509Certificate": {"rawBytes": STANDARD.encode(bytes)},
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    },
                },
            }}),
        };
        request.to_string().into_bytes()
    }

    /// The entry that was made, as bundles have it.
    pub(super) fn entry(self, answer: &[u8]) -> Result<Value, AttestError> {
        let answer: Value = serde_json::from_slice(answer).map_err(|_| UNREADABLE)?;
        match self {
            Self::V1 => {
                let entries = answer.as_object();
                let entry = entries.and_then(|entries| entries.values().next());
                entry.and_then(entry_of_v1).ok_or(UNREADABLE)
            }
            Self::V2 if answer["canonicalizedBody"].is_string() => Ok(answer),
            Self::V2 => Err(UNREADABLE),
        }
    }
}

/// An entry as the first version has it, with hashes in hexadecimal, as bundles have it.
fn entry_of_v1(entry: &Value) -> Option<Value> {
    let base64 = |value: &Value| Some(STANDARD.encode(hex::decode(value.as_str()?).ok()?));
    let body = STANDARD.decode(entry["body"].as_str()?).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let mut made = json!({
        "logIndex": entry["logIndex"].as_u64()?.to_string(),
        "logId": {"keyId": base64(&entry["logID"])?},
        "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
        "integratedTime": entry["integratedTime"].as_u64()?.to_string(),
        "canonicalizedBody": entry["body"],
    });
    let verification = &entry["verification"];
    if let Some(promise) = verification["signedEntryTimestamp"].as_str() {
        made["inclusionPromise"] = json!({"signedEntryTimestamp": promise});
    }
    let proof = &verification["inclusionProof"];
    if proof.is_object() {
        let hashes = proof["hashes"].as_array().into_iter().flatten();
        made["inclusionProof"] = json!({
            "logIndex": proof["logIndex"].as_u64()?.to_string(),
            "treeSize": proof["treeSize"].as_u64()?.to_string(),
            "rootHash": base64(&proof["rootHash"])?,
            "hashes": hashes.map(base64).collect::<Option<Vec<_>>>()?,
            "checkpoint": {"envelope": proof["checkpoint"].as_str()?},
        });
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_there_already() {
        let id = "1f".repeat(40);
        let own = format!("/api/v1/log/entries/{id}");
        for location in [
            own.clone(),
            format!("https://elsewhere.example{own}"),
            format!("{own}/?a=b"),
        ] {
            assert_eq!(LogVersion::V1.existing(&location), Some(own.clone()));
            assert_eq!(LogVersion::V2.existing(&location), None);
        }
        for bad in ["", "/", "/api/v1/log/entries/..", "x/1f", &"/g".repeat(64)] {
            assert_eq!(LogVersion::V1.existing(bad), None);
        }
    }
}
