//! Signatures that are asked for.

use serde::Deserialize;

use crate::text::Text;

/// Signatures that an image must have: by keys, or by a certificate.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The file of a public key, in the context.
    pub key: Option<Text>,
    /// Files of public keys.
    #[serde(default)]
    pub keys: Vec<Text>,
    /// How many of the keys must have signed; one unless given.
    pub threshold: Option<u32>,
    /// Whose certificate it must be, instead of a key; `*` stands for anything.
    pub identity: Option<Text>,
    /// The same as a regular expression, which fits any name that it is found in.
    pub identity_regexp: Option<Text>,
    /// The identity provider that vouches for that.
    pub issuer: Option<Text>,
    /// The same as a regular expression.
    pub issuer_regexp: Option<Text>,
    /// The file of Sigstore's trusted root, which says whom to believe; instead of it `roots`, `log` and
    /// `timestamps`.
    pub trusted_root: Option<Text>,
    /// The file of the authorities' certificates.
    pub roots: Option<Text>,
    /// The file of the transparency log's key.
    pub log: Option<Text>,
    /// The file of the timestamp authority's certificates, for a log that says no time.
    pub timestamps: Option<Text>,
    /// What must be signed: `sbom`, `provenance` or others; anything about the image unless given.
    #[serde(default)]
    pub attestations: Vec<Text>,
}
