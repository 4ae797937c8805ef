//! Times that an authority has signed (RFC 3161), as Sigstore's bundles have them: when a signature was
//! there. What is asked of an authority, and what it answers.

use ring::digest::{self, Algorithm, digest};

use crate::certificate::{Certificate, Purpose, Roots};
use crate::der::{self, Element};
use crate::{AttestError, pem};

/// 1.2.840.113549.1.7.2, signed data (RFC 5652, section 5.1).
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4, the content of a timestamp (RFC 3161, section 2.4.2).
const TIMESTAMP_INFO: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04,
];
/// 1.2.840.113549.1.9.3 and .4, content type and message digest (RFC 5652, section 11).
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 2.16.840.1.101.3.4.2.n: SHA-256, SHA-384 and SHA-512.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

const INTEGER: u8 = 0x02;
const GENERALIZED_TIME: u8 = 0x18;
const SET: u8 = 0x31;
/// `[0]` of its context.
const FIRST: u8 = 0xa0;

/// Authorities whose times are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimestampAuthorities {
    roots: Roots,
    /// All certificates that are known, for timestamps that have none.
    known: Vec<Certificate>,
}

impl TimestampAuthorities {
    /// Reads certificates in PEM: of the authority, and of those that vouch for it.
    pub(crate) fn read(text: &str) -> Result<Self, AttestError> {
        let known = pem::decode_all(text, "CERTIFICATE")?;
        let known = known.into_iter().map(Certificate::new).collect();
        Ok(Self::new(Roots::read(text)?, known))
    }

    /// Authorities that `roots` vouch for.
    pub(crate) fn new(roots: Roots, known: Vec<Certificate>) -> Self {
        Self { roots, known }
    }

    /// When a message was there, as a timestamp says, in seconds since 1970; why it is not believed
    /// otherwise.
    pub(crate) fn time(&self, response: &[u8], message: &[u8]) -> Result<u64, &'static str> {
        let (signed, info) = read(response, message)?;
        if !signed.has_digest() {
            return Err("a timestamp has been changed");
        }
        let own = signed.certificates();
        let others: Vec<Certificate> = own.iter().chain(&self.known).cloned().collect();
        let signed_it =
            |one: &&Certificate| one.verify(&signed.attributes, signed.signature).is_ok();
        let mut signers = others.iter().filter(signed_it).peekable();
        if signers.peek().is_none() {
            return Err("a timestamp was not signed by the authorities that are given");
        }
        let holds = |one: &Certificate| {
            let path = one.check(&self.roots, &others, info.time, Purpose::TimeStamping);
            path.is_ok()
        };
        match signers.any(holds) {
            true => Ok(info.time),
            false => Err("the certificate of a timestamp doesn't hold"),
        }
    }
}

/// What asks an authority when it saw a message (RFC 3161, section 2.4.1), to be sent as
/// `application/timestamp-query`. Its certificate is wanted with the answer.
#[must_use]
pub fn timestamp_query(message: &[u8]) -> Vec<u8> {
    const NULL: &[u8] = &[0x05, 0x00];
    const VERSION: &[u8] = &[INTEGER, 1, 1];
    const WITH_CERTIFICATE: &[u8] = &[0x01, 1, 0xff];
    let sha256 = [SHA2, &[1]].concat();
    let algorithm = [&der::encode(der::OBJECT_IDENTIFIER, &sha256), NULL].concat();
    let imprint = [
        der::encode(der::SEQUENCE, &algorithm),
        der::encode(der::OCTET_STRING, digest(&digest::SHA256, message).as_ref()),
    ];
    let imprint = der::encode(der::SEQUENCE, &imprint.concat());
    let query = [VERSION, &imprint, WITH_CERTIFICATE].concat();
    der::encode(der::SEQUENCE, &query)
}

/// Checks that an authority's answer is about a message. Whether it is to be believed is another question.
///
/// # Errors
/// When it isn't.
pub fn check_timestamp(response: &[u8], message: &[u8]) -> Result<(), AttestError> {
    match read(response, message) {
        Ok(_) => Ok(()),
        Err(reason) => Err(AttestError::Timestamp(reason)),
    }
}

/// A timestamp of a message, whoever signed it, and what it says; what is wrong with it otherwise.
fn read<'a>(
    response: &'a [u8],
    message: &[u8],
) -> Result<(SignedData<'a>, TimestampInfo<'a>), &'static str> {
    let signed = SignedData::read(response).ok_or("a timestamp is damaged")?;
    let info = TimestampInfo::read(signed.content).ok_or("a timestamp is damaged")?;
    match info.is_of(message) {
        true => Ok((signed, info)),
        false => Err("a timestamp is of another signature"),
    }
}

/// What an authority has signed (RFC 5652, section 5).
struct SignedData<'a> {
    content: &'a [u8],
    certificates: Option<Element<'a>>,
    /// The attributes as they are signed: as a SET.
    attributes: Vec<u8>,
    algorithm: &'static Algorithm,
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    /// Reads a `TimeStampResp` (RFC 3161, section 2.4.2).
    fn read(response: &'a [u8]) -> Option<Self> {
        let response = der::first(response)?.0.of(der::SEQUENCE)?;
        let [status, token] = response[..] else {
            return None;
        };
        // Granted, or granted with changes.
        let status = status.of(der::SEQUENCE)?;
        let is_granted = matches!(status.first()?.content, [0 | 1]);
        let token = token.of(der::SEQUENCE).filter(|_| is_granted)?;
        let [kind, data] = token[..] else { return None };
        let data = data.of(FIRST).filter(|_| is(kind, SIGNED_DATA))?;
        let parts = data.first()?.of(der::SEQUENCE)?;
        let [_version, _algorithms, content, ref rest @ .., signers] = parts[..] else {
            return None;
        };
        let content = content.of(der::SEQUENCE)?;
        let [kind, inner] = content[..] else {
            return None;
        };
        let inner = inner.of(FIRST).filter(|_| is(kind, TIMESTAMP_INFO))?;
        let inner = inner
            .first()
            .filter(|inner| inner.tag == der::OCTET_STRING)?;
        let signers = signers.of(SET)?;
        // RFC 3161 has exactly one.
        let [signer] = signers[..] else { return None };
        let signer = signer.of(der::SEQUENCE)?;
        let [_version, _id, algorithm, attributes, _kind, signature, ..] = signer[..] else {
            return None;
        };
        if attributes.tag != FIRST || signature.tag != der::OCTET_STRING {
            return None;
        }
        let mut signed = attributes.whole.to_vec();
        *signed.first_mut()? = SET;
        Some(Self {
            content: inner.content,
            certificates: rest.iter().find(|part| part.tag == FIRST).copied(),
            attributes: signed,
            algorithm: hash_of(algorithm)?,
            signature: signature.content,
        })
    }

    /// Whether the attributes, which are signed, are of the content.
    fn has_digest(&self) -> bool {
        let digest = digest(self.algorithm, self.content);
        let value = |id: &[u8]| -> Option<&[u8]> {
            let attributes = der::first(&self.attributes)?.0.of(SET)?;
            let mut own = attributes
                .into_iter()
                .filter_map(|one| one.of(der::SEQUENCE));
            let own = own.find(|one| one.first().is_some_and(|name| is(*name, id)))?;
            let values = own.get(1)?.of(SET)?;
            let [value] = values[..] else { return None };
            Some(value.content)
        };
        value(MESSAGE_DIGEST) == Some(digest.as_ref())
            && value(CONTENT_TYPE) == Some(TIMESTAMP_INFO)
    }

    fn certificates(&self) -> Vec<Certificate> {
        let all = self.certificates.and_then(|all| all.of(FIRST));
        let all = all.unwrap_or_default().into_iter();
        let plain = all.filter(|one| one.tag == der::SEQUENCE);
        plain
            .map(|one| Certificate::new(one.whole.to_vec()))
            .collect()
    }
}

/// What a timestamp says.
struct TimestampInfo<'a> {
    algorithm: &'static Algorithm,
    imprint: &'a [u8],
    time: u64,
}

impl<'a> TimestampInfo<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let parts = der::first(content)?.0.of(der::SEQUENCE)?;
        let [version, _policy, imprint, _serial, time, ..] = parts[..] else {
            return None;
        };
        let imprint = imprint.of(der::SEQUENCE)?;
        let [algorithm, digest] = imprint[..] else {
            return None;
        };
        let is_known = version.tag == INTEGER && version.content == [1];
        (is_known && time.tag == GENERALIZED_TIME).then_some(())?;
        Some(Self {
            algorithm: hash_of(algorithm)?,
            imprint: digest.content,
            time: seconds(time.content)?,
        })
    }

    fn is_of(&self, message: &[u8]) -> bool {
        digest(self.algorithm, message).as_ref() == self.imprint
    }
}

fn is(element: Element<'_>, id: &[u8]) -> bool {
    element.tag == der::OBJECT_IDENTIFIER && element.content == id
}

/// The hash that an `AlgorithmIdentifier` names.
fn hash_of(algorithm: Element<'_>) -> Option<&'static Algorithm> {
    let parts = algorithm.of(der::SEQUENCE)?;
    let id = parts
        .first()
        .filter(|id| id.tag == der::OBJECT_IDENTIFIER)?;
    match id.content.strip_prefix(SHA2)? {
        [1] => Some(&digest::SHA256),
        [2] => Some(&digest::SHA384),
        [3] => Some(&digest::SHA512),
        _ => None,
    }
}

/// `YYYYMMDDHHMMSS[.F]Z` (RFC 3161, section 2.4.2) in seconds since 1970; fractions are dropped.
fn seconds(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let number = |from: usize, to: usize| whole[from..to].parse::<u8>().ok();
    let month = time::Month::try_from(number(4, 6)?).ok()?;
    let date =
        time::Date::from_calendar_date(whole[..4].parse().ok()?, month, number(6, 8)?).ok()?;
    let time = time::Time::from_hms(number(8, 10)?, number(10, 12)?, number(12, 14)?).ok()?;
    let moment = time::PrimitiveDateTime::new(date, time).assume_utc();
    u64::try_from(moment.unix_timestamp()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::key::tests::openssl;
    use proptest::prelude::*;

    /// An authority in `tsa.pem`, vouched for by `tsa-ca.pem`, made by OpenSSL.
    pub(crate) fn new_authority(at: &Path) {
        let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
        write(
            "tsa.cnf",
            "[req]\ndistinguished_name = dn\nx509_extensions = ca\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n[tsa]\ndefault_tsa = own\n[own]\nserial = serial\ndefault_policy = 1.2.3.4\ndigests = sha256,sha384,sha512\nsigner_digest = sha256\naccuracy = secs:1\n",
        );
        write(
            "tsa.ext",
            "keyUsage = critical,digitalSignature\nextendedKeyUsage = critical,timeStamping\n",
        );
        write("serial", "01\n");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout";
        openssl(
            at,
            &format!(
                "req -x509 -config tsa.cnf {key} tsa-ca.key -out tsa-ca.pem -days 30 -subj /CN=tsa-root"
            ),
        );
        let key = key.replace("384", "256");
        openssl(
            at,
            &format!("req -new -config tsa.cnf {key} tsa.key -out tsa.csr -subj /CN=tsa"),
        );
        openssl(
            at,
            "x509 -req -in tsa.csr -CA tsa-ca.pem -CAkey tsa-ca.key -CAcreateserial -days 1 -extfile tsa.ext -out tsa.pem",
        );
    }

    /// A timestamp of a message, by that authority.
    pub(crate) fn stamp(at: &Path, message: &[u8], flags: &str) -> Vec<u8> {
        std::fs::write(at.join("message"), message).unwrap();
        openssl(at, &format!("ts -query -data message -out query {flags}"));
        openssl(
            at,
            "ts -reply -config tsa.cnf -queryfile query -inkey tsa.key -signer tsa.pem -out reply",
        );
        std::fs::read(at.join("reply")).unwrap()
    }

    #[test]
    fn times_of_an_authority() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        new_authority(at);
        let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
        let authorities = |text: &str| TimestampAuthorities::read(text).unwrap();
        let (ca, own) = (read("tsa-ca.pem"), read("tsa.pem"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs();
        for flags in ["-sha256 -cert", "-sha512 -cert"] {
            let reply = stamp(at, b"signature", flags);
            let time = authorities(&ca).time(&reply, b"signature").unwrap();
            assert!(time.abs_diff(now) < 60, "{time} {now}");
            let other = authorities(&ca).time(&reply, b"another");
            assert_eq!(other, Err("a timestamp is of another signature"));
        }
        // Without its certificate in it.
        let reply = stamp(at, b"signature", "-sha256");
        let both = authorities(&format!("{own}{ca}"));
        assert!(both.time(&reply, b"signature").is_ok());
        let alone = authorities(&ca).time(&reply, b"signature");
        assert!(alone.unwrap_err().contains("authorities that are given"));
        // Whatever is changed in it.
        for place in 0..reply.len() {
            let mut changed = reply.clone();
            changed[place] ^= 1;
            if let Ok(time) = both.time(&changed, b"signature") {
                // Versions and names of signers are neither signed nor needed.
                assert!(time.abs_diff(now) < 60, "{place}");
            }
        }
        new_authority(at);
        let stranger = authorities(&format!("{}{}", read("tsa.pem"), read("tsa-ca.pem")));
        assert!(stranger.time(&reply, b"signature").is_err());
    }

    #[test]
    fn openssl_understands_what_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        new_authority(at);
        std::fs::write(at.join("query"), timestamp_query(b"signature")).unwrap();
        openssl(
            at,
            "ts -reply -config tsa.cnf -queryfile query -inkey tsa.key -signer tsa.pem -out reply",
        );
        let reply = std::fs::read(at.join("reply")).unwrap();
        let ca = std::fs::read_to_string(at.join("tsa-ca.pem")).unwrap();
        let authorities = TimestampAuthorities::read(&ca).unwrap();
        assert!(authorities.time(&reply, b"signature").is_ok());
        assert_eq!(check_timestamp(&reply, b"signature"), Ok(()));
        assert!(check_timestamp(&reply, b"another").is_err());
        assert!(check_timestamp(b"", b"signature").is_err());
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds(b"19700101000001Z"), Some(1));
        assert_eq!(seconds(b"20261126120000.123Z"), Some(1_795_694_400));
        for bad in [
            "",
            "Z",
            "20261126120000",
            "20261326120000Z",
            "2026112612000.Z",
            "19691231235959Z",
            "202611261200xxZ",
        ] {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            _ = SignedData::read(&bytes);
            _ = TimestampInfo::read(&bytes);
        }
    }
}
