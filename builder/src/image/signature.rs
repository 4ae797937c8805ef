//! Signatures that an image must have, as policies, kiln.toml and kiln.lock say it.
//!
//! ```toml
//! key = "base.pub"                # or keys = ["a.pub", "b.pub"], of which threshold = 1 must sign
//! attestations = ["provenance"]   # what must be signed; anything about the image unless given
//!
//! identity = "https://github.com/org/repo/.github/workflows/*"   # without a key: the certificate's,
//! issuer = "https://token.actions.githubusercontent.com"         # who vouches for it;
//! identity_regexp, issuer_regexp                                 # the same as regular expressions;
//! trusted_root = "trusted_root.json"                             # and whom to believe. Instead of that:
//! roots = "fulcio.pem"            # the authorities that issue certificates,
//! log = "rekor.pub"               # and the key of the transparency log;
//! timestamps = "tsa.pem"          # for a log that says no time, the timestamp authority's certificates
//! ```

use std::path::{Path, PathBuf};

use kiln_attest::{PublicKey, Verifier, Verifiers};
use serde::{Deserialize, Serialize};

use super::signer_identity::{IdentityFields, IdentityMistake};
use crate::{AttestationKind, Error};

/// What is written about signatures that an image must have. Files are named by paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureRule {
    /// The file of a public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Files of public keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PathBuf>,
    /// How many of the keys must have signed; one unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
    /// Whose certificate it must be, instead of a key; `*` stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The same as a regular expression.
    #[serde(alias = "identity-regexp", skip_serializing_if = "Option::is_none")]
    pub identity_regexp: Option<String>,
    /// The identity provider that vouches for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The same as a regular expression.
    #[serde(alias = "issuer-regexp", skip_serializing_if = "Option::is_none")]
    pub issuer_regexp: Option<String>,
    /// The file of Sigstore's document of whom to believe.
    #[serde(alias = "trusted-root", skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<PathBuf>,
    /// The file of the authorities' certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
    /// The file of the transparency log's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// The file of the timestamp authority's certificates, for logs of Rekor's second version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<PathBuf>,
    /// What must be signed, in the words of `kiln verify`; nothing: anything about the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
}

impl SignatureRule {
    /// What can't be meant so.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        for kind in &self.attestations {
            _ = kind.parse::<AttestationKind>()?;
        }
        self.check_signers().map_err(str::to_owned)
    }

    fn check_signers(&self) -> Result<(), &'static str> {
        let has_keys = self.key.is_some() || !self.keys.is_empty();
        let identity = self.identity_fields();
        let has_identity = !identity.is_empty();
        match (has_keys, has_identity) {
            (true, true) => return Err("name keys or an identity, not both"),
            (false, false) => return Err("name who must have signed: key, keys or identity"),
            (false, true) if self.threshold.is_some() => {
                return Err("threshold is for several keys");
            }
            (true, false) => return Ok(()),
            (false, true) => {}
        }
        identity.check().map_err(|mistake| match mistake {
            IdentityMistake::Both => "name an identity or a regular expression, not both",
            IdentityMistake::Incomplete => {
                "identity and issuer go together with trusted_root, or with roots and log"
            }
            IdentityMistake::TrustedTwice => {
                "trusted_root stands instead of roots, log and timestamps"
            }
        })
    }

    fn identity_fields(&self) -> IdentityFields<'_, Path> {
        IdentityFields {
            identity: self.identity.as_deref(),
            identity_regexp: self.identity_regexp.as_deref(),
            issuer: self.issuer.as_deref(),
            issuer_regexp: self.issuer_regexp.as_deref(),
            trusted_root: self.trusted_root.as_deref(),
            roots: self.roots.as_deref(),
            log: self.log.as_deref(),
            timestamps: self.timestamps.as_deref(),
        }
    }

    /// The rule with its files read. `read` reads one, by the path that is written.
    ///
    /// # Errors
    /// When a file can't be read, or isn't what it should be.
    pub fn resolve(
        &self,
        read: impl Fn(&Path) -> Result<String, Error>,
    ) -> Result<RequiredSignature, Error> {
        let usage =
            |reason: String| Error::Usage(format!("a signature that must be there: {reason}"));
        self.check().map_err(usage)?;
        let mut verifiers = Vec::new();
        for path in self.key.iter().chain(&self.keys) {
            let key = PublicKey::read(&read(path)?);
            let key = key.map_err(|error| usage(format!("{}: {error}", path.display())))?;
            verifiers.push(Verifier::Key(key));
        }
        let identity = self.identity_fields();
        if !identity.is_empty() {
            let identity = identity.resolve(&read).map_err(|error| match error {
                Error::Attest(error) => usage(error.to_string()),
                other => other,
            })?;
            verifiers.push(Verifier::Identity(Box::new(identity)));
        }
        let threshold = usize::try_from(self.threshold.unwrap_or(1)).unwrap_or(usize::MAX);
        let signers = Verifiers::new(verifiers, threshold);
        let attestations = self.attestations.iter();
        let attestations: Result<Vec<_>, _> = attestations
            .map(|kind| kind.parse::<AttestationKind>())
            .collect();
        Ok(RequiredSignature {
            signers: signers.map_err(|error| usage(error.to_string()))?,
            attestations: attestations.map_err(usage)?,
            shown: self.shown(),
        })
    }

    /// The rule with the paths of its files below a directory.
    #[must_use]
    pub fn below(mut self, directory: &Path) -> Self {
        let own = [
            &mut self.key,
            &mut self.trusted_root,
            &mut self.roots,
            &mut self.log,
            &mut self.timestamps,
        ];
        for path in own.into_iter().flatten().chain(&mut self.keys) {
            *path = directory.join(&*path);
        }
        self
    }

    /// Who must have signed, as it is written.
    #[must_use]
    pub fn shown(&self) -> String {
        let identity = self.identity.as_ref().or(self.identity_regexp.as_ref());
        let issuer = self.issuer.as_ref().or(self.issuer_regexp.as_ref());
        if let (Some(identity), Some(issuer)) = (identity, issuer) {
            return format!("{identity} ({issuer})");
        }
        let keys = self.key.iter().chain(&self.keys);
        let keys: Vec<String> = keys.map(|key| key.display().to_string()).collect();
        match (self.threshold.unwrap_or(1), keys.len()) {
            (1, 1) => keys.join(""),
            (threshold, _) => format!("{threshold} of {}", keys.join(", ")),
        }
    }
}

/// Signatures that an image must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSignature {
    /// Who must have signed.
    pub signers: Verifiers,
    /// What must be signed; nothing: anything about the image.
    pub attestations: Vec<AttestationKind>,
    /// The signers in the words of whoever demands it.
    pub shown: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_mean_nothing() {
        let why = |text: &str| {
            let rule: SignatureRule = toml::from_str(text).unwrap();
            rule.check().err().unwrap_or_else(|| "fine".to_owned())
        };
        let root = |text: &str| format!("{text}\ntrusted-root = 't'");
        let identity = "identity = 'a'\nissuer = 'b'\nroots = 'r'\nlog = 'l'\n";
        let cases = [
            ("key = 'k'", "fine"),
            ("keys = ['k', 'l']\nthreshold = 2", "fine"),
            (identity, "fine"),
            ("", "name who must have signed"),
            ("attestations = ['sbom']", "name who must have signed"),
            ("identity = 'a'\nissuer = 'b'", "go together"),
            ("log = 'l'\nkey = 'k'", "not both"),
            ("log = 'l'", "go together"),
            ("timestamps = 't'\nkey = 'k'", "not both"),
            (&root("identity = 'a'\nissuer = 'b'"), "fine"),
            (&root("identity_regexp = 'a'\nissuer-regexp = 'b'"), "fine"),
            (
                &root("identity = 'a'\nidentity-regexp = 'a'\nissuer = 'b'"),
                "not both",
            ),
            (&root("identity = 'a'"), "go together"),
            (&root("issuer = 'a'"), "go together"),
            (&root(identity), "stands instead of roots"),
            (&format!("{identity}timestamps = 't'"), "fine"),
            (
                "key = 'k'\nattestations = ['sbm']",
                "unknown attestation 'sbm'",
            ),
            ("key = 'k'\nattestations = ['https://a/b']", "fine"),
            (&format!("{identity}key = 'k'"), "not both"),
            (&format!("{identity}threshold = 1"), "for several keys"),
        ];
        for (text, want) in cases {
            assert!(why(text).contains(want), "{text}: {}", why(text));
        }
        assert!(toml::from_str::<SignatureRule>("signed = 'k'").is_err());
    }
}
