//! Kinds of attestations, as `kiln verify` and rules about signatures name them.

use std::fmt;
use std::str::FromStr;

use kiln_attest::sbom::Format;

/// A kind of attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttestationKind {
    /// Where it comes from: SLSA provenance of any version.
    Provenance,
    /// A list of packages of any form.
    Sbom,
    /// A list of packages as SPDX.
    Spdx,
    /// A list of packages as CycloneDX.
    CycloneDx,
    /// A signature that says no more.
    Signature,
    /// A predicate of another type, which is an address.
    Predicate(String),
}

/// The kinds that have a word.
const WORDS: [(&str, AttestationKind); 5] = [
    ("provenance", AttestationKind::Provenance),
    ("sbom", AttestationKind::Sbom),
    ("spdx", AttestationKind::Spdx),
    ("cyclonedx", AttestationKind::CycloneDx),
    ("signature", AttestationKind::Signature),
];

impl FromStr for AttestationKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, kind)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(kind.clone());
        }
        // Types of predicates are addresses (in-toto, "TypeURI").
        match text.contains(':') {
            true => Ok(Self::Predicate(text.to_owned())),
            false => {
                let words = WORDS.map(|(word, _)| word).join(", ");
                Err(format!(
                    "unknown attestation '{text}': use {words}, or the address of a predicate's type"
                ))
            }
        }
    }
}

impl fmt::Display for AttestationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, kind)| kind == self);
        match (self, word) {
            (Self::Predicate(address), _) => f.write_str(address),
            (_, Some((word, _))) => f.write_str(word),
            (_, None) => Ok(()),
        }
    }
}

impl AttestationKind {
    /// Whether predicates of a type are of this kind.
    #[must_use]
    pub fn has(&self, predicate_type: &str) -> bool {
        let (spdx, cyclonedx) = (
            Format::Spdx.predicate_type(),
            Format::CycloneDx.predicate_type(),
        );
        let starts: &[&str] = match self {
            Self::Provenance => &["https://slsa.dev/provenance/"],
            Self::Sbom => &[spdx, cyclonedx],
            Self::Spdx => &[spdx],
            Self::CycloneDx => &[cyclonedx],
            Self::Signature => &["https://sigstore.dev/cosign/sign/"],
            Self::Predicate(own) => return own == predicate_type,
        };
        starts.iter().any(|start| predicate_type.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_addresses() {
        for word in [
            "provenance",
            "sbom",
            "spdx",
            "cyclonedx",
            "signature",
            "https://a/b",
        ] {
            let kind: AttestationKind = word.parse().unwrap();
            assert_eq!(kind.to_string(), word);
        }
        let has = |kind: &str, of: &str| kind.parse::<AttestationKind>().unwrap().has(of);
        assert!(
            has("sbom", "https://spdx.dev/Document") && has("sbom", "https://cyclonedx.org/bom")
        );
        assert!(has("provenance", "https://slsa.dev/provenance/v0.2"));
        assert!(!has("spdx", "https://cyclonedx.org/bom"));
        assert!(has("https://a/b", "https://a/b") && !has("https://a/b", "https://a/b/c"));
        for slip in ["", "sbm", "SBOM", "a b"] {
            let error = slip.parse::<AttestationKind>().unwrap_err();
            assert!(error.contains("use provenance, sbom,"), "{error}");
        }
    }
}
