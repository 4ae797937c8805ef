//! Signatures without keys: a certificate says who signed, and a transparency log says when. The
//! certificate holds for minutes only, so the log's time is what counts.
//!
//! What the log vouches for is Rekor's signed entry timestamp
//! (<https://github.com/sigstore/rekor/blob/main/openapi.yaml>, `LogEntry`); or a proof that the entry is in the
//! log, which is all that Rekor's second version gives, and the time is that of a timestamp authority. A proof
//! that is there must hold. Whom to believe is the caller's to say (see `trusted_root`): nothing is fetched.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::bundle::{Bundle, Envelope, Material};
use crate::certificate::Certificate;
use crate::entry_body::EntryBody;
use crate::inclusion_proof::InclusionProof;
use crate::number::Number;
use crate::trusted_root::Log;
use crate::{AttestError, NamePattern, TrustedRoot};

/// Who must have signed, and whom to believe about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerIdentity {
    /// The certificate's address of mail, or of a workflow.
    subject: NamePattern,
    /// The identity provider's address.
    issuer: NamePattern,
    trust: TrustedRoot,
}

/// An entry of the log, as a bundle has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogEntry {
    #[serde(default)]
    log_index: Number,
    log_id: LogId,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<InclusionProof>,
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

fn log(reason: &str) -> AttestError {
    AttestError::Log(reason.to_owned())
}

fn damaged() -> AttestError {
    log("an entry is damaged")
}

impl SignerIdentity {
    /// Whoever's certificate has a name that fits `subject`, for which an identity provider vouches that fits
    /// `issuer`.
    #[must_use]
    pub fn new(subject: NamePattern, issuer: NamePattern, trust: TrustedRoot) -> Self {
        Self {
            subject,
            issuer,
            trust,
        }
    }

    /// Who must have signed, in words.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} ({})", self.subject.as_str(), self.issuer.as_str())
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
        let time = self.time(bundle, own, signature)?;
        self.trust.check(own, others, time)?;
        self.check_name(own)
    }

    fn check_name(&self, certificate: &Certificate) -> Result<(), AttestError> {
        let names = certificate.names();
        let issuer = certificate.issuer().unwrap_or_default();
        let is_it = |name: &String| self.subject.matches(name);
        match self.issuer.matches(&issuer) && names.iter().any(is_it) {
            true => Ok(()),
            false => Err(AttestError::Identity {
                found: format!("{} ({issuer})", names.join(", ")),
                wanted: self.shown(),
            }),
        }
    }

    /// When a signature was made that the log has, in seconds since 1970.
    fn time(
        &self,
        bundle: &Bundle,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<u64, AttestError> {
        let mut why = log("there is no entry of a log");
        for entry in &bundle.log {
            match self.entry_time(entry, bundle, certificate, signature) {
                Ok(time) => return Ok(time),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The time of one entry.
    fn entry_time(
        &self,
        entry: &LogEntry,
        bundle: &Bundle,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<u64, AttestError> {
        let (body, bytes) = entry.body()?;
        let time = self.logged_time(entry, &bytes, bundle, signature)?;
        match body.is_of(&bundle.envelope, certificate, signature)? {
            true => Ok(time),
            false => Err(log("its entry is of another signature")),
        }
    }

    /// The time that one of the logs vouches for, or an authority where the log vouches for the entry only.
    fn logged_time(
        &self,
        entry: &LogEntry,
        body: &[u8],
        bundle: &Bundle,
        signature: &[u8],
    ) -> Result<u64, AttestError> {
        let mut why = log("none of the trusted logs has it");
        for by in self.trust.logs() {
            let time = match entry.time(by, body) {
                Ok(Some(time)) => Ok(time),
                Ok(None) => self.trust.time(&bundle.timestamps, signature),
                Err(error) => Err(error),
            };
            match time {
                Ok(time) if by.holds(time) => return Ok(time),
                Ok(_) => why = log("the log's key was not in use then"),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, AttestError> {
    STANDARD.decode(text).map_err(|_| damaged())
}

impl LogEntry {
    fn body(&self) -> Result<(EntryBody, Vec<u8>), AttestError> {
        let bytes = decoded(&self.canonicalized_body)?;
        let body = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        Ok((EntryBody(body), bytes))
    }

    /// Whether it is about an envelope that was signed so with this certificate.
    pub(crate) fn is_of(
        &self,
        envelope: &Envelope,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<bool, AttestError> {
        self.body()?.0.is_of(envelope, certificate, signature)
    }

    /// The time that a log vouches for; `None` when it vouches for the entry only.
    fn time(&self, by: &Log, body: &[u8]) -> Result<Option<u64>, AttestError> {
        if let Some(proof) = &self.inclusion_proof {
            let key = by
                .key()
                .ok_or_else(|| log("its key is of an unknown kind"))?;
            proof.check(body, key).map_err(log)?;
        }
        match (&self.inclusion_promise, &self.inclusion_proof) {
            (Some(promise), _) => self.promised(promise, by).map(Some),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(log(
                "the entry has neither a signed timestamp nor a proof that it is in the log",
            )),
        }
    }

    /// The time of an entry of Rekor's first version.
    fn promised(&self, promise: &Promise, by: &Log) -> Result<u64, AttestError> {
        let id = hex::encode(decoded(&self.log_id.key_id)?);
        let time = self.integrated_time.get().ok_or_else(damaged)?;
        // The keys are sorted, and nothing is between them: canonical JSON (RFC 8785).
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"{id}","logIndex":{}}}"#,
            self.canonicalized_body,
            self.log_index.get().ok_or_else(damaged)?
        );
        let timestamp = decoded(&promise.signed_entry_timestamp)?;
        match by.verify(signed.as_bytes(), &timestamp) {
            true => Ok(time),
            false => Err(log("its timestamp was not signed with the log's key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{SystemTime, UNIX_EPOCH};

    use kiln_graph::BlobDigest;
    use serde_json::{Value, json};

    use super::*;
    use crate::bundle::{SIGN_PREDICATE, to_be_signed};
    use crate::key::tests::{new_key, openssl};
    use crate::{Artifact, SigningKey, Statement, Verifier, pem};

    const WORKFLOW: &str = "https://github.com/o/r/.github/workflows/ci.yml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    /// An authority, a log and a certificate, as Sigstore has them.
    struct Sigstore {
        directory: tempfile::TempDir,
        log: SigningKey,
    }

    impl Sigstore {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let at = directory.path();
            let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
            write(
                "ca.cnf",
                "[req]\ndistinguished_name = dn\nx509_extensions = ca\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n",
            );
            let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout ca.key";
            openssl(
                at,
                &format!("req -x509 -config ca.cnf {key} -out ca.pem -days 30 -subj /CN=root"),
            );
            openssl(
                at,
                &format!("req -x509 -config ca.cnf {key}2 -out other.pem -days 30 -subj /CN=root"),
            );
            let log = new_key(at);
            Self { directory, log }
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.directory.path().join(name)).unwrap()
        }

        /// A key, and its certificate with these extensions.
        fn issue(&self, extensions: &str) -> (SigningKey, Vec<u8>) {
            let at: &Path = self.directory.path();
            std::fs::write(at.join("leaf.ext"), extensions).unwrap();
            let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key";
            openssl(
                at,
                &format!("req -new -config ca.cnf {key} -out leaf.csr -subj /CN=x"),
            );
            openssl(
                at,
                "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile leaf.ext -out leaf.pem",
            );
            let key = SigningKey::read(&self.read("leaf.key"), None).unwrap();
            let (_, certificate) = pem::decode(&self.read("leaf.pem")).unwrap();
            (key, certificate)
        }

        fn identity(&self, subject: &str, roots: &str) -> Verifier {
            self.identity_at(subject, roots, None)
        }

        fn identity_at(&self, subject: &str, roots: &str, times: Option<&str>) -> Verifier {
            let log = self.log.public().to_pem();
            let times = times.map(|name| self.read(name));
            let trust = TrustedRoot::from_pem(&self.read(roots), &log, times.as_deref());
            let (subject, issuer) = (
                NamePattern::wildcard(subject),
                NamePattern::wildcard(ISSUER),
            );
            let identity = SignerIdentity::new(subject, issuer, trust.unwrap());
            Verifier::Identity(Box::new(identity))
        }

        /// What is said of a bundle.
        fn check(&self, bundle: &Value, subject: &str, roots: &str, image: &BlobDigest) -> String {
            verdict(&self.identity(subject, roots), bundle, image)
        }

        /// What is said of one that should be by the workflow, about [`image`].
        fn fits(&self, bundle: &Value) -> String {
            self.check(bundle, "https://github.com/o/r/*", "ca.pem", &image())
        }

        /// The same, with the times of an authority.
        fn fits_at(&self, bundle: &Value, authorities: &str) -> String {
            let verifier = self.identity_at(WORKFLOW, "ca.pem", Some(authorities));
            verdict(&verifier, bundle, &image())
        }
    }

    fn verdict(verifier: &Verifier, bundle: &Value, image: &BlobDigest) -> String {
        match verifier.verify(bundle.to_string().as_bytes(), image) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn extensions(issuer: &str) -> String {
        format!(
            "keyUsage = critical,digitalSignature\nextendedKeyUsage = codeSigning\nsubjectAltName = critical,URI:{WORKFLOW}\n1.3.6.1.4.1.57264.1.8 = ASN1:UTF8String:{issuer}\n"
        )
    }

    fn image() -> BlobDigest {
        BlobDigest::from_sha256([1; 32])
    }

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    }

    /// A bundle about [`image`], logged at a time.
    fn bundle(sigstore: &Sigstore, (key, certificate): &(SigningKey, Vec<u8>), time: u64) -> Value {
        let about = vec![Artifact::new("", &image())];
        let statement = Statement::new(about, SIGN_PREDICATE, json!({})).to_json();
        let signature = STANDARD.encode(key.sign(&to_be_signed(&statement)).unwrap());
        let text = pem::encode("CERTIFICATE", certificate);
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "payloadHash": {"algorithm": "sha256", "value": BlobDigest::of(&statement).hex()},
                "signatures": [{"signature": signature, "verifier": STANDARD.encode(text)}],
            },
        });
        let body = STANDARD.encode(body.to_string());
        let id = [7; 32];
        let signed = format!(
            r#"{{"body":"{body}","integratedTime":{time},"logID":"{}","logIndex":5}}"#,
            hex::encode(id)
        );
        let timestamp = STANDARD.encode(sigstore.log.sign(signed.as_bytes()).unwrap());
        json!({
            "mediaType": crate::bundle::BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": STANDARD.encode(certificate)},
                "tlogEntries": [{
                    "logIndex": "5",
                    "logId": {"keyId": STANDARD.encode(id)},
                    "kindVersion": {"kind": "dsse", "version": "0.0.1"},
                    "integratedTime": time.to_string(),
                    "inclusionPromise": {"signedEntryTimestamp": timestamp},
                    "canonicalizedBody": body,
                }],
            },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&statement),
                "payloadType": crate::STATEMENT_MEDIA_TYPE,
                "signatures": [{"sig": signature}],
            },
        })
    }

    #[test]
    fn only_who_was_vouched_for_when_it_was_signed() {
        let sigstore = Sigstore::new();
        let issued = sigstore.issue(&extensions(ISSUER));
        let good = bundle(&sigstore, &issued, now());
        let check = |subject: &str, roots: &str, image: &BlobDigest| {
            sigstore.check(&good, subject, roots, image)
        };
        let at = |time: u64| sigstore.fits(&bundle(&sigstore, &issued, time));
        assert_eq!(sigstore.fits(&good), "fine");
        assert_eq!(check(WORKFLOW, "ca.pem", &image()), "fine");
        let another = BlobDigest::from_sha256([2; 32]);
        let cases = [
            (
                check("https://github.com/o/x/*", "ca.pem", &image()),
                "not by",
            ),
            (check(WORKFLOW, "other.pem", &image()), "doesn't hold"),
            (check(WORKFLOW, "ca.pem", &another), "another image"),
            (at(now() + 3 * 86400), "had expired"),
            (at(now() - 86400), "did not hold yet"),
        ];
        for (said, want) in cases {
            assert!(said.contains(want), "{want}: {said}");
        }
    }

    #[test]
    fn other_certificates_are_refused() {
        let sigstore = Sigstore::new();
        let fits = |extensions: &str| {
            let issued = sigstore.issue(extensions);
            sigstore.fits(&bundle(&sigstore, &issued, now()))
        };
        let of_issuer = extensions("https://evil.example");
        assert!(fits(&of_issuer).contains("(https://evil.example), not by"));
        let for_servers = extensions(ISSUER).replace("codeSigning", "serverAuth");
        assert!(fits(&for_servers).contains("doesn't hold"));
        let nobody = extensions(ISSUER).replace(&format!("URI:{WORKFLOW}"), "DNS:github.com");
        assert!(fits(&nobody).contains("not by"));
    }

    #[test]
    fn other_entries_of_the_log_are_refused() {
        let sigstore = Sigstore::new();
        let own = sigstore.issue(&extensions(ISSUER));
        let good = bundle(&sigstore, &own, now());
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut other = good.clone();
            change(&mut other);
            sigstore.fits(&other)
        };
        let entry = |bundle: &mut Value, key: &str, value: Value| {
            bundle["verificationMaterial"]["tlogEntries"][0][key] = value;
        };
        type Change<'a> = &'a dyn Fn(&mut Value);
        let cases: [(Change<'_>, &str); 8] = [
            (
                &|b| b["verificationMaterial"]["tlogEntries"] = json!([]),
                "no entry",
            ),
            (&|b| entry(b, "integratedTime", json!("1")), "log's key"),
            (&|b| entry(b, "logIndex", json!(6)), "log's key"),
            (
                &|b| entry(b, "inclusionPromise", Value::Null),
                "neither a signed timestamp nor a proof",
            ),
            (&|b| entry(b, "canonicalizedBody", json!("!")), "is damaged"),
            (
                &|b| entry(b, "integratedTime", json!({})),
                "entries of logs",
            ),
            (
                &|b| b["dsseEnvelope"]["payload"] = STANDARD.encode("{}").into(),
                "was not made",
            ),
            (
                &|b| b["verificationMaterial"]["certificate"]["rawBytes"] = json!("AAAA"),
                "was not made",
            ),
        ];
        for (change, want) in cases {
            let said = changed(change);
            assert!(said.contains(want), "{want}: {said}");
        }
        // The entry of another signature by the same certificate.
        let mut other = bundle(&sigstore, &own, now());
        let entries = good["verificationMaterial"]["tlogEntries"].clone();
        other["verificationMaterial"]["tlogEntries"] = entries;
        let said = sigstore.fits(&other);
        assert!(said.contains("of another signature"), "{said}");
        // An entry that can't be read leaves the others their chance.
        let mut entries = good["verificationMaterial"]["tlogEntries"].clone();
        let mut damaged = entries[0].clone();
        damaged["canonicalizedBody"] = json!("no base64");
        entries.as_array_mut().unwrap().insert(0, damaged);
        let mut several = good.clone();
        several["verificationMaterial"]["tlogEntries"] = entries;
        assert_eq!(sigstore.fits(&several), "fine");
        // A key's bundle has no certificate at all.
        let mut plain = good.clone();
        plain["verificationMaterial"] = json!({"publicKey": {"hint": ""}});
        assert!(sigstore.fits(&plain).contains("there is none"));
    }

    /// Entries of Rekor's second version: those that it makes, and those of its first year.
    fn bodies_of_second_version(bundle: &Value) -> [Value; 2] {
        let signature = &bundle["dsseEnvelope"]["signatures"][0]["sig"];
        let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
        let payload = STANDARD.decode(payload).unwrap();
        let hash = |bytes: &[u8]| json!({"algorithm": "SHA2_256", "digest": STANDARD.encode(BlobDigest::of(bytes).as_bytes())});
        let certificate = &bundle["verificationMaterial"]["certificate"];
        let signature = json!({
            "content": signature,
            "verifier": {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": certificate},
        });
        [
            json!({
                "apiVersion": "0.0.2",
                "kind": "hashedrekord",
                "spec": {"hashedRekordV002": {"data": hash(&to_be_signed(&payload)), "signature": signature}},
            }),
            json!({
                "apiVersion": "0.0.2",
                "kind": "dsse",
                "spec": {"dsseV002": {"payloadHash": hash(&payload), "signatures": [signature]}},
            }),
        ]
    }

    /// The same bundle with an entry of Rekor's second version, at the end of a log with others.
    fn second_version(sigstore: &Sigstore, bundle: &Value, body: &Value, flags: &str) -> Value {
        let at = sigstore.directory.path();
        let signature = &bundle["dsseEnvelope"]["signatures"][0]["sig"];
        let bytes = STANDARD.decode(signature.as_str().unwrap()).unwrap();
        let (kind, body) = (&body["kind"], body.to_string());
        let mut leaves: Vec<_> = (0..6_u8)
            .map(|number| crate::merkle::leaf(&[number]))
            .collect();
        leaves.push(crate::merkle::leaf(body.as_bytes()));
        let (root, proof) = crate::merkle::tests::tree(&leaves, 6);
        let root = STANDARD.encode(root);
        let text = format!("log.example\n7\n{root}\n");
        let signed = [&[0; 4], &sigstore.log.sign(text.as_bytes()).unwrap()[..]].concat();
        let note = format!("{text}\n\u{2014} log.example {}\n", STANDARD.encode(signed));
        let mut other = bundle.clone();
        other["verificationMaterial"]["tlogEntries"] = json!([{
            "logIndex": "6",
            "logId": {"keyId": STANDARD.encode([7; 32])},
            "kindVersion": {"kind": kind, "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": "6",
                "treeSize": "7",
                "rootHash": root,
                "hashes": proof.iter().map(|hash| STANDARD.encode(hash)).collect::<Vec<_>>(),
                "checkpoint": {"envelope": note},
            },
            "canonicalizedBody": STANDARD.encode(body),
        }]);
        let stamp = crate::timestamp::tests::stamp(at, &bytes, flags);
        other["verificationMaterial"]["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(stamp)}]});
        other
    }

    #[test]
    fn entries_of_the_second_version() {
        let sigstore = Sigstore::new();
        crate::timestamp::tests::new_authority(sigstore.directory.path());
        let own = sigstore.issue(&extensions(ISSUER));
        let first = bundle(&sigstore, &own, now());
        let [body, early] = bodies_of_second_version(&first);
        let with = |body: &Value| second_version(&sigstore, &first, body, "-sha256 -cert");
        let good = with(&body);
        for fine in [&good, &with(&early), &first] {
            assert_eq!(sigstore.fits_at(fine, "tsa-ca.pem"), "fine");
        }
        // Digests of something else, or by something else.
        let of_payload = early["spec"]["dsseV002"]["payloadHash"].clone();
        let changes: [(&str, Value); 4] = [
            ("data", of_payload),
            ("data", json!({})),
            (
                "data",
                json!({"algorithm": "SHA2_384", "digest": body["spec"]["hashedRekordV002"]["data"]["digest"]}),
            ),
            (
                "signature",
                json!({"content": body["spec"]["hashedRekordV002"]["signature"]["content"]}),
            ),
        ];
        for (field, value) in changes {
            let mut changed = body.clone();
            changed["spec"]["hashedRekordV002"][field] = value;
            let said = sigstore.fits_at(&with(&changed), "tsa-ca.pem");
            assert!(said.contains("of another signature"), "{field}: {said}");
        }
        let without = sigstore.check(&good, WORKFLOW, "ca.pem", &image());
        assert!(without.contains("name the certificates of the timestamp authority"));
        assert!(sigstore.fits_at(&good, "ca.pem").contains("doesn't hold"));
        // The entry and the timestamp of another signature.
        let mut other = bundle(&sigstore, &own, now());
        let material = good["verificationMaterial"].clone();
        other["verificationMaterial"] = material;
        let said = sigstore.fits_at(&other, "tsa-ca.pem");
        assert!(said.contains("of another signature"));
    }

    #[test]
    fn changed_entries_of_the_second_version_are_refused() {
        let sigstore = Sigstore::new();
        crate::timestamp::tests::new_authority(sigstore.directory.path());
        let own = sigstore.issue(&extensions(ISSUER));
        let first = bundle(&sigstore, &own, now());
        let [body, _] = bodies_of_second_version(&first);
        let good = second_version(&sigstore, &first, &body, "-sha256 -cert");
        type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);
        let cases: [(Change<'_>, &str); 8] = [
            (
                &|entry, _| entry["inclusionProof"] = Value::Null,
                "neither a signed timestamp nor a proof",
            ),
            (
                &|entry, _| entry["inclusionProof"]["logIndex"] = json!(5),
                "not in the tree",
            ),
            (
                &|entry, _| entry["inclusionProof"]["hashes"] = json!([]),
                "not in the tree",
            ),
            (
                &|entry, _| entry["inclusionProof"]["treeSize"] = json!("8"),
                "not in the tree",
            ),
            (
                &|entry, _| {
                    let note = &mut entry["inclusionProof"]["checkpoint"]["envelope"];
                    *note = note.as_str().unwrap().replace("\n7\n", "\n8\n").into();
                },
                "was not signed with the log's key",
            ),
            (
                &|entry, _| {
                    let body = decoded(entry["canonicalizedBody"].as_str().unwrap()).unwrap();
                    let body = String::from_utf8(body)
                        .unwrap()
                        .replace("SHA2_256", "SHA2_257");
                    entry["canonicalizedBody"] = STANDARD.encode(body).into();
                },
                "not in the tree",
            ),
            (
                &|_, stamps| *stamps = json!({"rfc3161Timestamps": []}),
                "there is no timestamp",
            ),
            (
                &|_, stamps| stamps["rfc3161Timestamps"][0]["signedTimestamp"] = json!("AAAA"),
                "is damaged",
            ),
        ];
        for (change, want) in cases {
            let mut other = good.clone();
            let material = other["verificationMaterial"].as_object_mut().unwrap();
            let mut stamps = material.remove("timestampVerificationData").unwrap();
            change(&mut material["tlogEntries"][0], &mut stamps);
            material.insert("timestampVerificationData".to_owned(), stamps);
            let said = sigstore.fits_at(&other, "tsa-ca.pem");
            assert!(said.contains(want), "{want}: {said}");
        }
    }

    #[test]
    fn roots_must_be_certificates() {
        let sigstore = Sigstore::new();
        let log = sigstore.log.public().to_pem();
        let why = |roots: &str, log: &str| {
            let trust = TrustedRoot::from_pem(roots, log, None);
            trust.unwrap_err().to_string()
        };
        assert!(why("", &log).contains("no certificate"));
        assert!(why(&log, &log).contains("no certificate"));
        assert!(why(&sigstore.read("ca.pem"), "x").contains("PEM"));
        let cut = sigstore.read("ca.pem").replace("-----END", "");
        assert!(why(&cut, &log).contains("truncated"));
    }
}
