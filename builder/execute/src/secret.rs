//! Where the values of build-time secrets come from.

use std::fmt;
use std::path::PathBuf;

use kiln_graph::Location;
use zeroize::Zeroizing;

use crate::{EngineError, Needed, SecretError};

/// The bytes of a secret. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes charge of a secret's bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Gives steps their secrets and SSH agents. Called from many threads at once.
///
/// A secret has one value for as long as a build takes: steps that are given it see the same, and what they
/// write is masked and searched for it. `kiln::conformance::secrets` tries a provider.
pub trait SecretProvider: Send + Sync {
    /// The value of the secret `id`; `None` when the user gave none. Steps that require a secret fail
    /// without one, others run: what the user gave and can't be had must be an error. May wait for
    /// programs and servers.
    ///
    /// # Errors
    /// When the user gave the secret but it can't be read. The error's text doesn't hold the value.
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError>;

    /// The value of the secret `id` if having it asks nobody: it was fetched before, or is a file or
    /// variable. `None` when it isn't at hand, or the user gave none. What [`Self::secret`] gave is at
    /// hand from then on.
    ///
    /// # Errors
    /// As [`Self::secret`].
    fn at_hand(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        self.secret(id)
    }

    /// Whether the secret `id` must not be seen: it is masked in outputs and searched for in what
    /// steps leave behind. Public bytes, such as certificates, need not be.
    fn is_sensitive(&self, _id: &str) -> bool {
        true
    }

    /// The socket of the SSH agent `id`; `None` when the user gave none.
    fn ssh_agent(&self, id: &str) -> Option<PathBuf>;

    /// Whether a changed value of the secret `id` makes the steps that are given it run again.
    fn is_in_key(&self, _id: &str) -> bool {
        false
    }
}

/// A secret that a step is given; one that isn't required may not be there.
pub(crate) fn given(
    secrets: &dyn SecretProvider,
    id: &str,
    required: bool,
    location: Option<&Location>,
) -> Result<Option<SecretValue>, EngineError> {
    let value = secrets.secret(id);
    let value = value.map_err(unreadable(id, location.cloned()))?;
    match value {
        None if required => Err(EngineError::NotGiven {
            what: Needed::Secret(id.to_owned()),
            location: location.cloned(),
        }),
        value => Ok(value),
    }
}

/// The error of a secret that was given but can't be read.
pub(crate) fn unreadable(
    id: &str,
    location: Option<Location>,
) -> impl FnOnce(SecretError) -> EngineError {
    let id = id.to_owned();
    move |source| EngineError::Secret {
        id,
        location,
        source,
    }
}

/// No secrets at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl SecretProvider for NoSecrets {
    fn secret(&self, _id: &str) -> Result<Option<SecretValue>, SecretError> {
        Ok(None)
    }

    fn ssh_agent(&self, _id: &str) -> Option<PathBuf> {
        None
    }
}
