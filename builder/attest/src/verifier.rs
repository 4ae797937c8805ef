//! Who must have signed: a key, or an identity; several of them, of which enough must.

use kiln_graph::BlobDigest;

use crate::bundle::Bundle;
use crate::{AttestError, PublicKey, SignerIdentity, Statement};

/// Checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// By a key.
    Key(PublicKey),
    /// By a certificate.
    Identity(Box<SignerIdentity>),
}

impl Verifier {
    /// The statement of a bundle, if it is signed and about `subject`.
    ///
    /// # Errors
    /// When the bundle can't be read, the signature is another's, or it is about something else.
    pub fn verify(&self, bundle: &[u8], subject: &BlobDigest) -> Result<Statement, AttestError> {
        self.check(&Bundle::read(bundle)?, subject)
    }

    fn check(&self, bundle: &Bundle, subject: &BlobDigest) -> Result<Statement, AttestError> {
        match self {
            Self::Key(key) => {
                let holds = |message: &[u8], signature: &[u8]| key.verify(message, signature);
                let signature = bundle.envelope.signature_of(holds);
                signature.ok_or(AttestError::Signature)?;
            }
            Self::Identity(identity) => identity.check(bundle)?,
        }
        let statement = Statement::read(&bundle.envelope.payload)?;
        match statement.is_about(subject) {
            true => Ok(statement),
            false => Err(AttestError::Subject),
        }
    }
}

/// Verifiers, of which a number must find a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifiers {
    all: Vec<Verifier>,
    threshold: usize,
}

/// A statement, and the verifiers (by their places) that found it signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// What is said.
    pub statement: Statement,
    /// The verifiers' places.
    pub by: Vec<usize>,
}

impl Verifiers {
    /// Verifiers, each counted once.
    ///
    /// # Errors
    /// When there are fewer than `threshold`, or it is 0.
    pub fn new(verifiers: Vec<Verifier>, threshold: usize) -> Result<Self, AttestError> {
        let mut all: Vec<Verifier> = Vec::new();
        for verifier in verifiers {
            if !all.contains(&verifier) {
                all.push(verifier);
            }
        }
        match (1..=all.len()).contains(&threshold) {
            true => Ok(Self { all, threshold }),
            false => Err(AttestError::Threshold {
                wanted: threshold,
                signers: all.len(),
            }),
        }
    }

    /// The statement of a bundle, with those who signed it.
    ///
    /// # Errors
    /// When none has: why the last one says so.
    pub fn verify(&self, bundle: &[u8], subject: &BlobDigest) -> Result<Signed, AttestError> {
        let bundle = Bundle::read(bundle)?;
        let mut by = Vec::new();
        let mut found = Err(AttestError::Signature);
        for (place, verifier) in self.all.iter().enumerate() {
            match verifier.check(&bundle, subject) {
                Ok(statement) => {
                    by.push(place);
                    found = Ok(statement);
                }
                Err(error) if by.is_empty() => found = Err(error),
                Err(_) => {}
            }
        }
        found.map(|statement| Signed { statement, by })
    }

    /// Whether enough of them have signed one of these.
    pub fn are_met<'s>(&self, signed: impl IntoIterator<Item = &'s Signed>) -> bool {
        let signed = signed.into_iter();
        let mut by: Vec<usize> = signed.flat_map(|one| one.by.iter().copied()).collect();
        by.sort_unstable();
        by.dedup();
        by.len() >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::BlobDigest;
    use serde_json::json;

    use super::*;
    use crate::bundle::{SIGN_PREDICATE, bundle, to_be_signed};
    use crate::key::tests::new_key;
    use crate::{Artifact, SigningKey};

    fn keys() -> Vec<SigningKey> {
        let directory = tempfile::tempdir().unwrap();
        (0..3).map(|_| new_key(directory.path())).collect()
    }

    #[test]
    fn enough_of_them_must_have_signed() {
        let keys = keys();
        let verifier = |key: &SigningKey| Verifier::Key(key.public());
        let all: Vec<Verifier> = keys.iter().map(verifier).collect();
        let of = |threshold| Verifiers::new(all.clone(), threshold);
        assert!(of(0).is_err() && of(4).is_err());
        // The same key twice is one signer.
        assert!(Verifiers::new(vec![all[0].clone(), all[0].clone()], 2).is_err());
        let image = BlobDigest::from_sha256([1; 32]);
        let about = vec![Artifact::new("", &image)];
        let statement = Statement::new(about, SIGN_PREDICATE, json!({})).to_json();
        let signed = |key: &SigningKey| {
            let signature = key.sign(&to_be_signed(&statement)).unwrap();
            bundle(&statement, &signature, "")
        };
        let two = of(2).unwrap();
        let found = |keys: &[&SigningKey]| -> Vec<Signed> {
            let bundles = keys.iter().map(|key| signed(key));
            bundles
                .filter_map(|bundle| two.verify(&bundle, &image).ok())
                .collect()
        };
        assert!(!two.are_met(&found(&[&keys[0]])));
        assert!(!two.are_met(&found(&[&keys[0], &keys[0]])));
        assert!(two.are_met(&found(&[&keys[0], &keys[2]])));
        assert!(!two.are_met(&[]));
    }
}
