//! Signed statements: DSSE envelopes (<https://github.com/secure-systems-lab/dsse>) in Sigstore
//! bundles of version 0.3
//! (<https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>). Those of a key have
//! no certificate, and no entry of a transparency log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::AttestError;
use crate::certificate::Certificate;
use crate::identity::LogEntry;
use crate::statement::STATEMENT_MEDIA_TYPE;

/// A bundle's media type, as an artifact and as its only layer.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What bundles of all versions begin with.
const BUNDLE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";
/// The predicate of a statement that says nothing but that an image is signed, as cosign writes it.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What is signed of a payload: DSSE's "pre-authentication encoding".
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// What is to be signed of a statement.
#[must_use]
pub fn to_be_signed(statement: &[u8]) -> Vec<u8> {
    pre_authentication(STATEMENT_MEDIA_TYPE, statement)
}

/// A bundle of a statement and its signature; `hint` names the key.
#[must_use]
pub fn bundle(statement: &[u8], signature: &[u8], hint: &str) -> Vec<u8> {
    let material = json!({"publicKey": {"hint": hint}, "tlogEntries": []});
    with_material(statement, signature, &material)
}

/// A bundle of a statement and its signature, with the signer's certificate (DER), the entry of a log, and the
/// answer of a timestamp authority.
pub(crate) fn certified(
    statement: &[u8],
    signature: &[u8],
    certificate: &[u8],
    entry: &Value,
    timestamp: Option<&[u8]>,
) -> Vec<u8> {
    let mut material = json!({
        "certificate": {"rawBytes": STANDARD.encode(certificate)},
        "tlogEntries": [entry],
    });
    if let Some(timestamp) = timestamp {
        let timestamps = json!([{"signedTimestamp": STANDARD.encode(timestamp)}]);
        material["timestampVerificationData"] = json!({"rfc3161Timestamps": timestamps});
    }
    with_material(statement, signature, &material)
}

fn with_material(statement: &[u8], signature: &[u8], material: &Value) -> Vec<u8> {
    let bundle = json!({
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": envelope(statement, signature),
    });
    bundle.to_string().into_bytes()
}

/// The envelope of a statement and its signature.
pub(crate) fn envelope(statement: &[u8], signature: &[u8]) -> Value {
    json!({
        "payload": STANDARD.encode(statement),
        "payloadType": STATEMENT_MEDIA_TYPE,
        "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
    })
}

/// Whether a media type is a bundle's, of any version.
#[must_use]
pub fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(BUNDLE_FAMILY)
}

/// A bundle as it is read.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) envelope: Envelope,
    pub(crate) material: Material,
    pub(crate) log: Vec<LogEntry>,
    /// Responses of timestamp authorities (RFC 3161).
    pub(crate) timestamps: Vec<Vec<u8>>,
}

/// What is signed, and its signatures.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

/// What signatures are verified with.
#[derive(Clone, Debug)]
pub(crate) enum Material {
    /// A key that whoever verifies has.
    Key,
    /// The signer's certificate, then others.
    Certificates(Vec<Certificate>),
}

impl Bundle {
    /// Reads a bundle of a statement.
    pub(crate) fn read(text: &[u8]) -> Result<Self, AttestError> {
        let document: Value =
            serde_json::from_slice(text).map_err(|error| bad(&error.to_string()))?;
        let material = &document["verificationMaterial"];
        let log = match &material["tlogEntries"] {
            Value::Null => Vec::new(),
            entries => serde_json::from_value(entries.clone())
                .map_err(|error| bad(&format!("its entries of logs: {error}")))?,
        };
        let timestamps = &material["timestampVerificationData"]["rfc3161Timestamps"];
        let timestamps = timestamps.as_array().into_iter().flatten();
        Ok(Self {
            timestamps: timestamps
                .filter_map(|one| bytes(&one["signedTimestamp"]))
                .collect(),
            envelope: Envelope::read(&document["dsseEnvelope"])?,
            material: Material::read(material)?,
            log,
        })
    }
}

fn bad(reason: &str) -> AttestError {
    AttestError::Bundle(reason.to_owned())
}

/// Bytes that are in base64.
pub(crate) fn bytes(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

impl Envelope {
    fn read(envelope: &Value) -> Result<Self, AttestError> {
        let payload_type = envelope["payloadType"].as_str();
        let payload_type = payload_type.ok_or_else(|| bad("it has no envelope"))?;
        if payload_type != STATEMENT_MEDIA_TYPE {
            return Err(bad(&format!("its payload is a {payload_type}")));
        }
        let payload = bytes(&envelope["payload"]).ok_or_else(|| bad("its payload is damaged"))?;
        let signatures = envelope["signatures"].as_array().into_iter().flatten();
        Ok(Self {
            payload,
            signatures: signatures.filter_map(|one| bytes(&one["sig"])).collect(),
        })
    }

    /// The signature that holds.
    pub(crate) fn signature_of(
        &self,
        verify: impl Fn(&[u8], &[u8]) -> Result<(), AttestError>,
    ) -> Option<&[u8]> {
        let message = to_be_signed(&self.payload);
        let mut all = self.signatures.iter();
        let found = all.find(|signature| verify(&message, signature).is_ok());
        found.map(Vec::as_slice)
    }
}

impl Material {
    fn read(material: &Value) -> Result<Self, AttestError> {
        let single = material.get("certificate");
        let chain = material["x509CertificateChain"]["certificates"].as_array();
        let all: Vec<&Value> = single
            .into_iter()
            .chain(chain.into_iter().flatten())
            .collect();
        if all.is_empty() {
            return Ok(Self::Key);
        }
        let one = |value: &&Value| {
            let bytes = bytes(&value["rawBytes"]);
            let bytes = bytes.ok_or_else(|| bad("its certificate is damaged"))?;
            Ok(Certificate::new(bytes))
        };
        let all: Result<_, AttestError> = all.iter().map(one).collect();
        all.map(Self::Certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::BlobDigest;

    use crate::key::tests::new_key;
    use crate::{Artifact, PublicKey, Statement, Verifier};

    fn verify(
        bundle: &[u8],
        key: &PublicKey,
        subject: &BlobDigest,
    ) -> Result<Statement, AttestError> {
        Verifier::Key(key.clone()).verify(bundle, subject)
    }

    #[test]
    fn the_encoding_of_the_specification() {
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            encoded,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_the_key_and_the_subject_that_were_signed() {
        let directory = tempfile::tempdir().unwrap();
        let (mine, other) = (new_key(directory.path()), new_key(directory.path()));
        let (image, another) = (
            BlobDigest::from_sha256([1; 32]),
            BlobDigest::from_sha256([2; 32]),
        );
        let statement = Statement::new(vec![Artifact::new("", &image)], SIGN_PREDICATE, json!({}));
        let bytes = statement.to_json();
        let signed = bundle(
            &bytes,
            &mine.sign(&to_be_signed(&bytes)).unwrap(),
            &mine.public().hint(),
        );
        assert_eq!(
            verify(&signed, &mine.public(), &image),
            Ok(statement.clone())
        );
        assert_eq!(
            verify(&signed, &other.public(), &image),
            Err(AttestError::Signature)
        );
        assert_eq!(
            verify(&signed, &mine.public(), &another),
            Err(AttestError::Subject)
        );
        let mut changed: Value = serde_json::from_slice(&signed).unwrap();
        let forged = Statement::new(vec![Artifact::new("", &another)], SIGN_PREDICATE, json!({}));
        changed["dsseEnvelope"]["payload"] = STANDARD.encode(forged.to_json()).into();
        let changed = changed.to_string().into_bytes();
        assert_eq!(
            verify(&changed, &mine.public(), &another),
            Err(AttestError::Signature)
        );
        let unsigned = bundle(&bytes, b"", "");
        assert_eq!(
            verify(&unsigned, &mine.public(), &image),
            Err(AttestError::Signature)
        );
        assert!(matches!(
            verify(b"{}", &mine.public(), &image),
            Err(AttestError::Bundle(_))
        ));
    }
}
