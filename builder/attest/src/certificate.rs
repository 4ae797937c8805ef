//! Certificates that Fulcio issues: for a short time, to whoever an identity provider vouches for
//! (<https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md>).

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

use crate::der::Element;
use crate::{AttestError, der, pem};

/// 1.3.6.1.5.5.7.3.3, code signing.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// 1.3.6.1.5.5.7.3.8, time stamping.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
/// 2.5.29.17, the subject's other names.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.4.1.57264.1.1, the issuer as plain text.
const OLD_ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
/// 1.3.6.1.4.1.57264.1.8, the issuer as an UTF8String.
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];

/// The algorithms that certificates and messages are signed with.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
];

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    CodeSigning,
    TimeStamping,
}

/// Authorities that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots(Vec<TrustAnchor<'static>>);

impl Roots {
    /// Reads certificates in PEM: each is trusted as it is.
    pub(crate) fn read(text: &str) -> Result<Self, AttestError> {
        let blocks = pem::decode_all(text, "CERTIFICATE")?;
        if blocks.is_empty() {
            return Err(AttestError::Key("there is no certificate in it".to_owned()));
        }
        Self::of(&blocks)
    }

    /// Certificates (DER), of which each is trusted as it is.
    pub(crate) fn of(certificates: &[Vec<u8>]) -> Result<Self, AttestError> {
        let anchor = |bytes: &Vec<u8>| {
            let certificate = CertificateDer::from(bytes.as_slice());
            let anchor = anchor_from_trusted_cert(&certificate);
            let anchor = anchor.map_err(|error| AttestError::Key(error.to_string()))?;
            Ok(anchor.to_owned())
        };
        let anchors: Result<_, AttestError> = certificates.iter().map(anchor).collect();
        anchors.map(Self)
    }
}

/// A certificate that a bundle has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    bytes: CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: CertificateDer::from(bytes),
        }
    }

    fn parsed(&self) -> Result<EndEntityCert<'_>, AttestError> {
        EndEntityCert::try_from(&self.bytes).map_err(broken)
    }

    /// Whether one of the roots has issued it, for a purpose, and it held at a time (in seconds since
    /// 1970). `others` may lie between.
    pub(crate) fn check(
        &self,
        roots: &Roots,
        others: &[Self],
        time: u64,
        purpose: Purpose,
    ) -> Result<(), AttestError> {
        let others: Vec<CertificateDer<'_>> =
            others.iter().map(|other| other.bytes.clone()).collect();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time));
        let certificate = self.parsed()?;
        let usage = KeyUsage::required(match purpose {
            Purpose::CodeSigning => CODE_SIGNING,
            Purpose::TimeStamping => TIME_STAMPING,
        });
        let path =
            certificate.verify_for_usage(ALGORITHMS, &roots.0, &others, time, usage, None, None);
        path.map(|_| ()).map_err(broken)
    }

    /// Whether its key has signed a message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        let certificate = self.parsed()?;
        let mut algorithms = ALGORITHMS.iter();
        let holds = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            let verified = certificate.verify_signature(*algorithm, message, signature);
            verified.is_ok()
        };
        match algorithms.any(holds) {
            true => Ok(()),
            false => Err(AttestError::Signature),
        }
    }

    /// Its bytes (DER).
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it has these bytes.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.bytes.as_ref() == bytes
    }

    /// Whose it is: addresses of mail and of workflows.
    pub(crate) fn names(&self) -> Vec<String> {
        /// `rfc822Name [1]` and `uniformResourceIdentifier [6]` of RFC 5280, section 4.2.1.6.
        const TEXTS: [u8; 2] = [0x81, 0x86];
        let value = self.extension(SUBJECT_ALT_NAME);
        let names = value.and_then(|value| der::first(value)?.0.of(der::SEQUENCE));
        let names = names.unwrap_or_default().into_iter();
        let texts = names.filter(|name| TEXTS.contains(&name.tag));
        texts
            .filter_map(|name| String::from_utf8(name.content.to_vec()).ok())
            .collect()
    }

    /// The identity provider that vouched for that.
    pub(crate) fn issuer(&self) -> Option<String> {
        let new = self.extension(ISSUER).and_then(|value| {
            let (text, _) = der::first(value)?;
            (text.tag == der::UTF8_STRING).then_some(text.content)
        });
        let text = new.or_else(|| self.extension(OLD_ISSUER))?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// Its key, as a SubjectPublicKeyInfo.
    pub(crate) fn key_info(&self) -> Option<&[u8]> {
        /// `version [0]` of a TBSCertificate, which may be left out.
        const VERSION: u8 = 0xa0;
        /// The serial number, the algorithm, the issuer, the validity and the subject.
        const BEFORE_THE_KEY: usize = 5;
        let body = self.body()?;
        let versions = usize::from(body.first()?.tag == VERSION);
        let key = body.get(versions + BEFORE_THE_KEY)?;
        Some(key.whole)
    }

    /// The value of an extension.
    pub(crate) fn extension(&self, id: &[u8]) -> Option<&[u8]> {
        let list = extensions(&self.body()?)?;
        list.into_iter()
            .find_map(|extension| value_of(extension, id))
    }

    /// The TBSCertificate (RFC 5280, section 4.1) as it is without an extension.
    pub(crate) fn body_without(&self, id: &[u8]) -> Option<Vec<u8>> {
        let body = self.body()?;
        let list = extensions(&body)?.into_iter();
        let kept = list.filter(|extension| value_of(*extension, id).is_none());
        let kept: Vec<u8> = kept
            .flat_map(|extension| extension.whole)
            .copied()
            .collect();
        let kept = der::encode(EXTENSIONS, &der::encode(der::SEQUENCE, &kept));
        let parts = body.iter().map(|part| match part.tag {
            EXTENSIONS => kept.as_slice(),
            _ => part.whole,
        });
        let parts: Vec<&[u8]> = parts.collect();
        Some(der::encode(der::SEQUENCE, &parts.concat()))
    }

    /// The parts of its TBSCertificate (RFC 5280, section 4.1).
    fn body(&self) -> Option<Vec<Element<'_>>> {
        let whole = der::first(&self.bytes)?.0.of(der::SEQUENCE)?;
        whole.first()?.of(der::SEQUENCE)
    }
}

/// `extensions [3]` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;

fn extensions<'a>(body: &[Element<'a>]) -> Option<Vec<Element<'a>>> {
    let extensions = body.iter().find(|part| part.tag == EXTENSIONS)?;
    der::first(extensions.content)?.0.of(der::SEQUENCE)
}

/// The value of an extension, if it is this one.
fn value_of<'a>(extension: Element<'a>, id: &[u8]) -> Option<&'a [u8]> {
    let parts = extension.of(der::SEQUENCE)?;
    let name = parts.first()?;
    let value = parts
        .last()
        .filter(|value| value.tag == der::OCTET_STRING)?;
    (name.tag == der::OBJECT_IDENTIFIER && name.content == id).then_some(value.content)
}

fn broken(error: webpki::Error) -> AttestError {
    AttestError::Certificate(match error {
        webpki::Error::UnknownIssuer => return AttestError::UnknownIssuer,
        webpki::Error::CertExpired { .. } => "it had expired when it signed".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "it did not hold yet when it signed".to_owned(),
        other => format!("{other:?}"),
    })
}
