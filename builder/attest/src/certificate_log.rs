//! Signed certificate timestamps: that a log of certificates has seen one before it was used (RFC 6962,
//! sections 3.2 and 3.3). Fulcio writes them into the certificate.

use ring::digest::{SHA256, digest};

use crate::certificate::Certificate;
use crate::der;
use crate::trusted_root::Log;

/// 1.3.6.1.4.1.11129.2.4.2, the list of timestamps.
const TIMESTAMPS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// `signature_type`, of a timestamp.
const CERTIFICATE_TIMESTAMP: u8 = 0;
/// `entry_type`, of a certificate before its timestamps were written into it.
const PRECERTIFICATE: [u8; 2] = [0, 1];
/// The `SignatureAndHashAlgorithm` of ECDSA with SHA-256 (RFC 5246, section 7.4.1.4.1).
const ECDSA_SHA256: [u8; 2] = [4, 3];

/// Whether one of the logs has seen a certificate that one of `issuers` has issued; why it is not believed
/// otherwise.
pub(crate) fn check(
    certificate: &Certificate,
    issuers: &[Certificate],
    logs: &[Log],
) -> Result<(), &'static str> {
    let list = certificate.extension(TIMESTAMPS);
    let list = list.ok_or("no log of certificates vouches for it")?;
    let timestamps = Timestamp::all(list).ok_or("its timestamps are damaged")?;
    let body = certificate.body_without(TIMESTAMPS);
    let body = body.ok_or("it is damaged")?;
    let holds = |timestamp: &Timestamp<'_>| {
        let mut keys = issuers.iter().filter_map(Certificate::key_info);
        keys.any(|key| timestamp.is_signed(key, &body, logs))
    };
    match timestamps.iter().any(holds) {
        true => Ok(()),
        false => Err("none of the trusted logs of certificates has signed its timestamps"),
    }
}

/// One timestamp.
struct Timestamp<'a> {
    log: &'a [u8],
    /// Milliseconds since 1970, eight bytes.
    time: &'a [u8],
    extensions: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Timestamp<'a> {
    /// The timestamps of an extension. Ones of another version are left out.
    fn all(extension: &'a [u8]) -> Option<Vec<Self>> {
        let (text, rest) = der::first(extension)?;
        let is_octets = text.tag == der::OCTET_STRING && rest.is_empty();
        let (mut list, rest) = sized(Some(text.content).filter(|_| is_octets)?)?;
        rest.is_empty().then_some(())?;
        let mut found = Vec::new();
        while !list.is_empty() {
            let (one, rest) = sized(list)?;
            found.extend(Self::read(one));
            list = rest;
        }
        Some(found)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[0])?;
        let (log, rest) = rest.split_at_checked(32)?;
        let (time, rest) = rest.split_at_checked(8)?;
        let (extensions, rest) = sized(rest)?;
        let (algorithm, rest) = rest.split_at_checked(2)?;
        let (signature, rest) = sized(rest)?;
        rest.is_empty().then_some(Self {
            log,
            time,
            extensions,
            algorithm,
            signature,
        })
    }

    /// Whether its log has signed it for a certificate of an issuer with this key.
    fn is_signed(&self, issuer: &[u8], body: &[u8], logs: &[Log]) -> bool {
        let (Some(signed), Some(time)) = (self.signed(issuer, body), self.seconds()) else {
            return false;
        };
        let mut logs = logs.iter().filter(|log| log.has_id(self.log, time));
        self.algorithm == ECDSA_SHA256 && logs.any(|log| log.verify(&signed, self.signature))
    }

    fn seconds(&self) -> Option<u64> {
        let time: [u8; 8] = self.time.try_into().ok()?;
        Some(u64::from_be_bytes(time) / 1000)
    }

    /// What is signed (RFC 6962, section 3.2).
    fn signed(&self, issuer: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(body.len()).ok()?.to_be_bytes();
        let [0, length @ ..] = length else {
            return None;
        };
        let extensions = u16::try_from(self.extensions.len()).ok()?.to_be_bytes();
        let issuer = digest(&SHA256, issuer);
        let parts: [&[u8]; 8] = [
            &[0, CERTIFICATE_TIMESTAMP],
            self.time,
            &PRECERTIFICATE,
            issuer.as_ref(),
            &length,
            body,
            &extensions,
            self.extensions,
        ];
        Some(parts.concat())
    }
}

/// The bytes that follow their length of two bytes, and those behind them.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::from(length))
}
