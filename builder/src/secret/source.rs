//! Where secrets are kept.

use kiln_engine::{SecretError, SecretValue};

/// A place that secrets can be had from. Called from many threads at once.
pub trait SecretSource: Send + Sync {
    /// Its name in `src=NAME:ADDRESS`.
    fn name(&self) -> &str;

    /// The value at an address. May wait for programs and servers.
    ///
    /// # Errors
    /// When it can't be had, or there is none. The error's text doesn't hold the value.
    fn fetch(&self, address: &str) -> Result<SecretValue, SecretError>;
}
