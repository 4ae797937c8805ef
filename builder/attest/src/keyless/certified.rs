//! A key with a certificate, and what it has signed.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{IdentityToken, LogVersion, fulcio};
use crate::bundle::{self, Bundle};
use crate::certificate::Certificate;
use crate::{AttestError, SigningKey, check_timestamp};

/// A key that was made for one certificate.
#[derive(Debug)]
pub struct CertifiedKey {
    key: SigningKey,
    certificate: Certificate,
}

impl CertifiedKey {
    /// A key for whom a token names. `ask` sends a request to [`super::CERTIFICATE_PATH`] and returns the
    /// answer.
    ///
    /// # Errors
    /// When `ask` fails, or the answer has no certificate of this key.
    pub fn request<E: From<AttestError>>(
        token: &IdentityToken,
        ask: impl FnOnce(Zeroizing<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let key = SigningKey::generate()?;
        let answer = ask(fulcio::request(token, &key)?)?;
        let certificate = fulcio::certificate(&answer, &key.public())?;
        Ok(Self { key, certificate })
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign<'k>(&'k self, statement: &'k [u8]) -> Result<LoggedSignature<'k>, AttestError> {
        let signature = self.key.sign(&bundle::to_be_signed(statement))?;
        Ok(LoggedSignature {
            by: self,
            statement,
            signature,
        })
    }
}

/// A signature that is to be logged.
#[derive(Debug)]
pub struct LoggedSignature<'k> {
    by: &'k CertifiedKey,
    statement: &'k [u8],
    signature: Vec<u8>,
}

impl LoggedSignature<'_> {
    /// The signature itself (DER), which timestamps are of.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.signature
    }

    /// What asks a log for an entry, at [`LogVersion::path`].
    #[must_use]
    pub fn log_request(&self, version: LogVersion) -> Vec<u8> {
        version.request(self.statement, &self.signature, &self.by.certificate)
    }

    /// The bundle, with the log's answer and that of a timestamp authority.
    ///
    /// # Errors
    /// When one of these is about something else.
    pub fn bundle(
        &self,
        version: LogVersion,
        log_answer: &[u8],
        timestamp: Option<&[u8]>,
    ) -> Result<Vec<u8>, AttestError> {
        if let Some(timestamp) = timestamp {
            check_timestamp(timestamp, &self.signature)?;
        }
        let entry: Value = version.entry(log_answer)?;
        let certificate = &self.by.certificate;
        let bytes = bundle::certified(
            self.statement,
            &self.signature,
            certificate.as_bytes(),
            &entry,
            timestamp,
        );
        let made = Bundle::read(&bytes)?;
        let is_of = |entry: &crate::identity::LogEntry| {
            entry.is_of(&made.envelope, certificate, &self.signature)
        };
        match made.log.first().map(is_of) {
            Some(Ok(true)) => Ok(bytes),
            Some(Err(error)) => Err(error),
            _ => Err(AttestError::Answer("its entry is of another signature")),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::keyless::token::tests::token;

    fn ask(answer: &Value) -> Result<CertifiedKey, AttestError> {
        let token = IdentityToken::read(&token(&json!({"sub": "a"}))).unwrap();
        CertifiedKey::request(&token, |_| Ok(answer.to_string().into_bytes()))
    }

    #[test]
    fn certificates_are_of_the_key_that_asks() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        crate::key::tests::openssl(
            at,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -subj /CN=x",
        );
        let other = std::fs::read_to_string(at.join("c")).unwrap();
        let chain = |text: &str| json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [text]}}});
        let cases = [
            (chain(&other), "of another key"),
            (chain("x"), "no certificate"),
            (json!({}), "no certificate"),
            (json!("x"), "no certificate"),
        ];
        for (answer, want) in cases {
            let error = ask(&answer).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn entries_are_of_the_signature() {
        let certified = CertifiedKey {
            key: SigningKey::generate().unwrap(),
            certificate: Certificate::new(vec![1, 2, 3]),
        };
        let signed = certified.sign(b"{}").unwrap();
        let body = STANDARD.encode(r#"{"kind":"dsse","apiVersion":"0.0.1","spec":{}}"#);
        let entry = json!({"body": body, "logID": "00", "logIndex": 1, "integratedTime": 1});
        let cases = [
            (json!({"a": entry}), "of another signature"),
            (json!({}), "no entry"),
            (json!({"a": {"body": "x"}}), "no entry"),
            (json!([]), "no entry"),
        ];
        for (answer, want) in cases {
            let answer = answer.to_string();
            let made = signed.bundle(LogVersion::V1, answer.as_bytes(), None);
            let error = made.unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let stamped = signed.bundle(LogVersion::V1, b"{}", Some(b"x"));
        assert!(stamped.unwrap_err().to_string().contains("is damaged"));
    }
}
