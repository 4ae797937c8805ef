//! Where secrets are kept.

use kiln_engine::SecretValue;

/// A place that secrets can be had from.
pub trait SecretSource: Send + Sync {
    /// Its name in `src=NAME:ADDRESS`.
    fn name(&self) -> &str;

    /// The value at an address.
    ///
    /// # Errors
    /// In plain words without the value, when it can't be had.
    fn fetch(&self, address: &str) -> Result<SecretValue, String>;
}
