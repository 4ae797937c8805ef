//! Whom to believe about signatures without keys: the authorities that issue certificates, the logs, and the
//! authorities that say times.
//!
//! Sigstore distributes these as one JSON document, the "trusted root"
//! (<https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto>, `TrustedRoot`,
//! versions 0.1 and 0.2). Whoever runs services of their own may give the certificates and keys in PEM instead.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::certificate::{Certificate, Purpose, Roots};
use crate::certificate_log;
use crate::log_key::LogKey;
use crate::timestamp::TimestampAuthorities;
use crate::validity::Validity;
use crate::{AttestError, pem};

/// What media types of all versions begin with.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// Authorities and logs that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    authorities: Vec<Authority>,
    logs: Vec<Log>,
    /// Logs of certificates. When there are any, a certificate must be in one.
    certificate_logs: Vec<Log>,
    timestamps: Vec<(TimestampAuthorities, Validity)>,
}

/// An authority that issues certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    roots: Roots,
    /// Its certificates, the root's included.
    chain: Vec<Certificate>,
    validity: Validity,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The id that entries name it by; `None` when it isn't known.
    id: Option<Vec<u8>>,
    /// Its key; `None` when it is of a kind that isn't supported, and nothing of it is believed.
    key: Option<LogKey>,
    validity: Validity,
}

impl Log {
    /// Whether it is meant by an id, and its key counts at a time.
    pub(crate) fn has_id(&self, id: &[u8], time: u64) -> bool {
        self.id.as_deref().is_none_or(|own| own == id) && self.validity.holds(time)
    }

    /// Whether its key counts at a time.
    pub(crate) fn holds(&self, time: u64) -> bool {
        self.validity.holds(time)
    }

    /// Whether its key has signed a message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = self.key.as_ref();
        key.is_some_and(|key| key.verify(message, signature).is_ok())
    }

    /// Its key.
    pub(crate) fn key(&self) -> Option<&LogKey> {
        self.key.as_ref()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    media_type: String,
    tlogs: Vec<LogDocument>,
    certificate_authorities: Vec<AuthorityDocument>,
    ctlogs: Vec<LogDocument>,
    timestamp_authorities: Vec<AuthorityDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogDocument {
    public_key: KeyDocument,
    log_id: Option<IdDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyDocument {
    raw_bytes: String,
    #[serde(default)]
    valid_for: Validity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdDocument {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityDocument {
    cert_chain: ChainDocument,
    #[serde(default)]
    valid_for: Validity,
}

#[derive(Deserialize)]
struct ChainDocument {
    certificates: Vec<CertificateDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateDocument {
    raw_bytes: String,
}

fn bad(reason: &str) -> AttestError {
    AttestError::TrustedRoot(reason.to_owned())
}

fn decoded(text: &str) -> Result<Vec<u8>, AttestError> {
    STANDARD
        .decode(text)
        .map_err(|_| bad("its base64 is damaged"))
}

impl LogDocument {
    fn read(&self) -> Result<Log, AttestError> {
        let id = self.log_id.as_ref().map(|id| decoded(&id.key_id));
        Ok(Log {
            id: id.transpose()?,
            key: LogKey::from_info(&decoded(&self.public_key.raw_bytes)?),
            validity: self.public_key.valid_for,
        })
    }
}

impl AuthorityDocument {
    fn chain(&self) -> Result<Vec<Vec<u8>>, AttestError> {
        let certificates = self.cert_chain.certificates.iter();
        certificates.map(|one| decoded(&one.raw_bytes)).collect()
    }

    fn authority(&self) -> Result<Authority, AttestError> {
        let chain = self.chain()?;
        let root = chain.last().cloned();
        let root = root.ok_or_else(|| bad("a certificate authority has no certificate"))?;
        Ok(Authority {
            roots: Roots::of(&[root])?,
            chain: chain.into_iter().map(Certificate::new).collect(),
            validity: self.valid_for,
        })
    }

    fn timestamps(&self) -> Result<(TimestampAuthorities, Validity), AttestError> {
        let authority = self.authority()?;
        let authorities = TimestampAuthorities::new(authority.roots, authority.chain);
        Ok((authorities, self.valid_for))
    }
}

impl TrustedRoot {
    /// Reads a document of Sigstore's.
    ///
    /// # Errors
    /// When it is none, or names no authority or no log.
    pub fn read(text: &str) -> Result<Self, AttestError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
        if !document.media_type.starts_with(MEDIA_TYPE) {
            return Err(bad(&format!("its mediaType isn't {MEDIA_TYPE}…")));
        }
        let logs = |logs: &[LogDocument]| -> Result<Vec<Log>, AttestError> {
            logs.iter().map(LogDocument::read).collect()
        };
        let (authorities, timestamps) = (
            document.certificate_authorities.iter(),
            document.timestamp_authorities.iter(),
        );
        let root = Self {
            authorities: authorities
                .map(AuthorityDocument::authority)
                .collect::<Result<_, _>>()?,
            logs: logs(&document.tlogs)?,
            certificate_logs: logs(&document.ctlogs)?,
            timestamps: timestamps
                .map(AuthorityDocument::timestamps)
                .collect::<Result<_, _>>()?,
        };
        match (root.authorities.is_empty(), root.logs.is_empty()) {
            (true, _) => Err(bad("it names no certificate authority")),
            (_, true) => Err(bad("it names no transparency log")),
            _ => Ok(root),
        }
    }

    /// The same of certificates and keys in PEM: those of the authorities, each of which is trusted as it is;
    /// the log's; and those of the authorities that say times, for logs that don't, as Rekor's second version.
    /// Whether a log of certificates has seen a certificate isn't asked then.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn from_pem(roots: &str, log: &str, timestamps: Option<&str>) -> Result<Self, AttestError> {
        let chain = pem::decode_all(roots, "CERTIFICATE")?;
        let timestamps = timestamps.map(TimestampAuthorities::read).transpose()?;
        let always = Validity::default();
        Ok(Self {
            authorities: vec![Authority {
                roots: Roots::read(roots)?,
                chain: chain.into_iter().map(Certificate::new).collect(),
                validity: always,
            }],
            logs: vec![Log {
                id: None,
                key: Some(LogKey::read(log)?),
                validity: always,
            }],
            certificate_logs: Vec::new(),
            timestamps: timestamps.into_iter().map(|one| (one, always)).collect(),
        })
    }

    /// The transparency logs.
    pub(crate) fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// Whether a certificate that is to sign code was issued by one of the authorities, held at a time (in
    /// seconds since 1970), and is in a log of certificates. `others` may lie between.
    pub(crate) fn check(
        &self,
        certificate: &Certificate,
        others: &[Certificate],
        time: u64,
    ) -> Result<(), AttestError> {
        let mut why = None;
        for authority in self
            .authorities
            .iter()
            .filter(|one| one.validity.holds(time))
        {
            let between = [&authority.chain, others].concat();
            match certificate.check(&authority.roots, &between, time, Purpose::CodeSigning) {
                Ok(()) => return self.check_log(certificate, &between),
                // That another authority has not issued it says nothing.
                Err(AttestError::UnknownIssuer) if why.is_some() => {}
                Err(error) => why = Some(error),
            }
        }
        Err(why.unwrap_or_else(|| {
            let text = "no authority issued certificates when it signed";
            AttestError::Certificate(text.to_owned())
        }))
    }

    fn check_log(
        &self,
        certificate: &Certificate,
        issuers: &[Certificate],
    ) -> Result<(), AttestError> {
        if self.certificate_logs.is_empty() {
            return Ok(());
        }
        certificate_log::check(certificate, issuers, &self.certificate_logs)
            .map_err(|reason| AttestError::Certificate(reason.to_owned()))
    }

    /// When a message was there, as one of some timestamps says, in seconds since 1970.
    pub(crate) fn time(&self, timestamps: &[Vec<u8>], message: &[u8]) -> Result<u64, AttestError> {
        if self.timestamps.is_empty() {
            let text = "it says no time: name the certificates of the timestamp authority";
            return Err(AttestError::Log(text.to_owned()));
        }
        let mut why = "there is no timestamp";
        for response in timestamps {
            for (authority, validity) in &self.timestamps {
                match authority.time(response, message) {
                    Ok(time) if validity.holds(time) => return Ok(time),
                    Ok(_) => why = "its authority said no times then",
                    Err(reason) => why = reason,
                }
            }
        }
        Err(AttestError::Timestamp(why))
    }
}
