//! Signatures without keys: a certificate says who signed, and a transparency log says when. The
//! certificate holds for minutes only, so the log's time is what counts.
//!
//! What the log vouches for is Rekor's signed entry timestamp
//! (<https://github.com/sigstore/rekor/blob/main/openapi.yaml>, `LogEntry`) over a `dsse` entry of
//! version 0.0.1. Roots and the log's key are the caller's: nothing is fetched.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::artifact::digest_of;
use crate::bundle::{Bundle, Envelope, Material};
use crate::certificate::{Certificate, Roots};
use crate::{AttestError, PublicKey, matches_wildcard};

/// Who must have signed, and whom to believe about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's address of mail, or of a workflow; `*` stands for anything.
    subject: String,
    /// The identity provider's address.
    issuer: String,
    roots: Roots,
    log: PublicKey,
}

/// An entry of the log, as a bundle has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogEntry {
    log_index: Number,
    log_id: LogId,
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

/// A number, which protobuf's JSON writes as a text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    fn get(&self) -> Result<u64, AttestError> {
        match self {
            Self::Plain(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| log("an entry is damaged")),
        }
    }
}

fn log(reason: &str) -> AttestError {
    AttestError::Log(reason.to_owned())
}

impl Identity {
    /// An identity. `roots` are certificates of authorities, `log` the key of the log, in PEM.
    ///
    /// # Errors
    /// When these can't be read.
    pub fn new(
        subject: impl Into<String>,
        issuer: impl Into<String>,
        roots: &str,
        log: &str,
    ) -> Result<Self, AttestError> {
        Ok(Self {
            subject: subject.into(),
            issuer: issuer.into(),
            roots: Roots::read(roots)?,
            log: PublicKey::read(log)?,
        })
    }

    /// Who must have signed, in words.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} ({})", self.subject, self.issuer)
    }

    /// Whether a bundle's envelope was signed by this identity.
    pub(crate) fn check(&self, bundle: &Bundle) -> Result<(), AttestError> {
        let Material::Certificates(certificates) = &bundle.material else {
            return Err(AttestError::Certificate("there is none".to_owned()));
        };
        let [own, others @ ..] = certificates.as_slice() else {
            return Err(AttestError::Certificate("there is none".to_owned()));
        };
        let envelope = &bundle.envelope;
        let signature = envelope.signature_of(|message, signature| own.verify(message, signature));
        let signature = signature.ok_or(AttestError::Signature)?;
        let time = self.time(&bundle.log, envelope, own, signature)?;
        own.check(&self.roots, others, time)?;
        self.check_name(own)
    }

    fn check_name(&self, certificate: &Certificate) -> Result<(), AttestError> {
        let names = certificate.names();
        let issuer = certificate.issuer().unwrap_or_default();
        let is_it = |name: &String| matches_wildcard(&self.subject, name);
        match issuer == self.issuer && names.iter().any(is_it) {
            true => Ok(()),
            false => Err(AttestError::Identity {
                found: format!("{} ({issuer})", names.join(", ")),
                wanted: self.shown(),
            }),
        }
    }

    /// When the log says that a signature was made, in seconds since 1970.
    fn time(
        &self,
        entries: &[LogEntry],
        envelope: &Envelope,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<u64, AttestError> {
        let mut why = log("there is no entry of a log");
        for entry in entries {
            match self.check_entry(entry, envelope, certificate, signature) {
                Ok(()) => return entry.integrated_time.get(),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn check_entry(
        &self,
        entry: &LogEntry,
        envelope: &Envelope,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<(), AttestError> {
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| log("an entry is damaged"))
        };
        let promise = entry.inclusion_promise.as_ref();
        let promise = promise.ok_or_else(|| log("the entry has no signed timestamp"))?;
        let id = hex::encode(decode(&entry.log_id.key_id)?);
        // The keys are sorted, and nothing is between them: canonical JSON (RFC 8785).
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{id}","logIndex":{}}}"#,
            entry.canonicalized_body,
            entry.integrated_time.get()?,
            entry.log_index.get()?
        );
        let timestamp = decode(&promise.signed_entry_timestamp)?;
        let holds = self.log.verify(signed.as_bytes(), &timestamp);
        holds.map_err(|_| log("its timestamp was not signed with the log's key"))?;
        let body: Value = serde_json::from_slice(&decode(&entry.canonicalized_body)?)
            .map_err(|_| log("an entry is damaged"))?;
        if body["kind"] != "dsse" || body["apiVersion"] != "0.0.1" {
            return Err(log("its entry is of a kind that is not supported"));
        }
        let spec = &body["spec"];
        let is_payload = spec["payloadHash"]["algorithm"] == "sha256"
            && spec["payloadHash"]["value"] == digest_of(&envelope.payload).hex();
        let verifier = STANDARD.encode(certificate.to_pem());
        let signature = STANDARD.encode(signature);
        let is_it = |one: &Value| one["signature"] == signature && one["verifier"] == verifier;
        let signatures = spec["signatures"].as_array();
        match is_payload && signatures.is_some_and(|all| all.iter().any(is_it)) {
            true => Ok(()),
            false => Err(log("its entry is of another signature")),
        }
    }
}
