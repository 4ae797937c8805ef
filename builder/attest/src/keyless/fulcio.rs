//! Fulcio's API (<https://github.com/sigstore/fulcio/blob/main/fulcio.proto>, `CreateSigningCertificate`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::IdentityToken;
use crate::certificate::Certificate;
use crate::{AttestError, PublicKey, SigningKey, pem};

/// Where certificates are asked for, below Fulcio's address.
pub const CERTIFICATE_PATH: &str = "/api/v2/signingCert";

/// What asks for a certificate: the key signs whom the token names, to show that it is there.
pub(super) fn request(
    token: &IdentityToken,
    key: &SigningKey,
) -> Result<Zeroizing<Vec<u8>>, AttestError> {
    let proof = key.sign(token.subject().as_bytes())?;
    let request = json!({
        "credentials": {"oidcIdentityToken": token.text()},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": key.public().to_pem()},
            "proofOfPossession": STANDARD.encode(proof),
        },
    });
    Ok(Zeroizing::new(request.to_string().into_bytes()))
}

/// The certificate that was issued for a key.
pub(super) fn certificate(answer: &[u8], key: &PublicKey) -> Result<Certificate, AttestError> {
    const UNREADABLE: AttestError = AttestError::Answer("it has no certificate");
    let answer: Value = serde_json::from_slice(answer).map_err(|_| UNREADABLE)?;
    let chain = [
        "signedCertificateEmbeddedSct",
        "signedCertificateDetachedSct",
    ]
    .into_iter()
    .find_map(|kind| answer[kind]["chain"]["certificates"].as_array())
    .ok_or(UNREADABLE)?;
    let own = chain.first().and_then(Value::as_str).ok_or(UNREADABLE)?;
    let own = pem::decode_all(own, "CERTIFICATE").map_err(|_| UNREADABLE)?;
    let own = Certificate::new(own.into_iter().next().ok_or(UNREADABLE)?);
    match own.key_info() == Some(&key.info()[..]) {
        true => Ok(own),
        false => Err(AttestError::Answer("its certificate is of another key")),
    }
}
