//! Why something can't be attested or verified.

use kiln_graph::Fault;

/// A failure with an attestation or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The bytes are no statement.
    #[error("not an in-toto statement: {0}")]
    Statement(String),
    /// The bytes are no envelope or bundle.
    #[error("not a Sigstore bundle with a DSSE envelope: {0}")]
    Bundle(String),
    /// A key can't be read.
    #[error("the key can't be used: {0}")]
    Key(String),
    /// A key needs a password.
    #[error("the key is encrypted: give its password in COSIGN_PASSWORD")]
    Password,
    /// A signature isn't the key's.
    #[error("the signature was not made by this key")]
    Signature,
    /// A certificate can't be read, or doesn't hold.
    #[error("the certificate doesn't hold: {0}")]
    Certificate(String),
    /// A certificate comes from somebody else.
    #[error("the certificate doesn't hold: none of the roots has issued it")]
    UnknownIssuer,
    /// The bytes don't say whom to believe.
    #[error("not a trusted root of Sigstore: {0}")]
    TrustedRoot(String),
    /// A pattern of identities can't be read.
    #[error("the pattern can't be read: {0}")]
    Pattern(String),
    /// A token says nothing of an identity, or no longer.
    #[error("the identity token can't be used: {0}")]
    Token(String),
    /// What a service answers isn't what was asked.
    #[error("the answer can't be used: {0}")]
    Answer(&'static str),
    /// A certificate is of somebody else.
    #[error("it was signed by {found}, not by {wanted}")]
    Identity {
        /// Whose the certificate is, and who says so.
        found: String,
        /// Whose it must be.
        wanted: String,
    },
    /// The transparency log doesn't vouch for a signature.
    #[error("the transparency log doesn't vouch for the signature: {0}")]
    Log(String),
    /// No authority says when something was signed.
    #[error("nobody vouches for when it was signed: {0}")]
    Timestamp(&'static str),
    /// More signers are wanted than there are.
    #[error("{wanted} of {signers} signers can't be wanted: write a number from 1 to {signers}")]
    Threshold {
        /// How many must have signed.
        wanted: usize,
        /// How many there are.
        signers: usize,
    },
    /// What was signed is about something else.
    #[error("the statement is about another image")]
    Subject,
}

impl AttestError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(_)
            | Self::Password
            | Self::Threshold { .. }
            | Self::TrustedRoot(_)
            | Self::Pattern(_)
            | Self::Token(_) => Fault::User,
            _ => Fault::Environment,
        }
    }
}
