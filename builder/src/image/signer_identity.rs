//! Signers without keys, as flags, policies, build files and locks name them.

use kiln_attest::{AttestError, NamePattern, SignerIdentity, TrustedRoot};

/// What is written about a signer. Files are named in `F`.
#[derive(Clone, Copy, Debug)]
pub struct IdentityFields<'a, F: ?Sized> {
    /// Whose certificate it must be; `*` stands for anything.
    pub identity: Option<&'a str>,
    /// The same as a regular expression.
    pub identity_regexp: Option<&'a str>,
    /// The identity provider that vouches for that.
    pub issuer: Option<&'a str>,
    /// The same as a regular expression.
    pub issuer_regexp: Option<&'a str>,
    /// Sigstore's document of whom to believe.
    pub trusted_root: Option<&'a F>,
    /// Instead of that, the authorities' certificates.
    pub roots: Option<&'a F>,
    /// And the transparency log's key.
    pub log: Option<&'a F>,
    /// And the timestamp authority's certificates, where the log says no time.
    pub timestamps: Option<&'a F>,
}

/// Why fields name no signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityMistake {
    /// A name and its pattern are both given.
    Both,
    /// Something is missing.
    Incomplete,
    /// Whom to believe is said twice.
    TrustedTwice,
}

impl<F: ?Sized> IdentityFields<'_, F> {
    /// Whether none of them is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let names = [
            self.identity,
            self.identity_regexp,
            self.issuer,
            self.issuer_regexp,
        ];
        let files = [self.trusted_root, self.roots, self.log, self.timestamps];
        names.iter().all(Option::is_none) && files.iter().all(Option::is_none)
    }

    /// Whether they name a signer.
    ///
    /// # Errors
    /// When they don't.
    pub fn check(&self) -> Result<(), IdentityMistake> {
        let has_names = |name: Option<&str>, expression: Option<&str>| match (name, expression) {
            (Some(_), Some(_)) => Err(IdentityMistake::Both),
            (None, None) => Err(IdentityMistake::Incomplete),
            _ => Ok(()),
        };
        has_names(self.identity, self.identity_regexp)?;
        has_names(self.issuer, self.issuer_regexp)?;
        let in_pem = [self.roots, self.log];
        let has_pem = in_pem.iter().any(Option::is_some) || self.timestamps.is_some();
        match (self.trusted_root.is_some(), has_pem) {
            (true, true) => Err(IdentityMistake::TrustedTwice),
            (true, false) => Ok(()),
            (false, _) if in_pem.iter().all(Option::is_some) => Ok(()),
            (false, _) => Err(IdentityMistake::Incomplete),
        }
    }

    /// The signer. `read` reads a file.
    ///
    /// # Errors
    /// When a file can't be read, or a pattern or a file isn't what it should be.
    pub fn resolve<E: From<AttestError>>(
        &self,
        read: impl Fn(&F) -> Result<String, E>,
    ) -> Result<SignerIdentity, E> {
        let trust = match (self.trusted_root, self.roots, self.log) {
            (Some(file), _, _) => TrustedRoot::read(&read(file)?)?,
            (None, Some(roots), Some(log)) => {
                let timestamps = self.timestamps.map(&read).transpose()?;
                TrustedRoot::from_pem(&read(roots)?, &read(log)?, timestamps.as_deref())?
            }
            _ => TrustedRoot::from_pem("", "", None)?,
        };
        let subject = pattern(self.identity, self.identity_regexp)?;
        let issuer = pattern(self.issuer, self.issuer_regexp)?;
        Ok(SignerIdentity::new(subject, issuer, trust))
    }
}

fn pattern(name: Option<&str>, expression: Option<&str>) -> Result<NamePattern, AttestError> {
    match expression {
        Some(expression) => NamePattern::expression(expression),
        None => Ok(NamePattern::wildcard(name.unwrap_or_default())),
    }
}
