//! `age:FILE`: a file encrypted with age (<https://age-encryption.org>), armoured or not.
//!
//! Identities come from the file that `AGE_IDENTITY` or `SOPS_AGE_KEY_FILE` names, else from
//! `~/.config/age/keys.txt`.

use std::io::Read as _;

use age::armor::ArmoredReader;
use kiln_engine::{SecretError, SecretValue};

use super::SecretSource;
use super::environment::Environment;

#[derive(Default)]
pub(super) struct Age {
    environment: Environment,
}

impl SecretSource for Age {
    fn name(&self) -> &'static str {
        "age"
    }

    fn fetch(&self, file: &str) -> Result<SecretValue, SecretError> {
        let sealed = std::fs::File::open(file).map_err(SecretError::of_file(file))?;
        let fail = |error: &dyn std::fmt::Display| {
            SecretError::Denied(format!("{file} can't be decrypted: {error}"))
        };
        let decryptor =
            age::Decryptor::new_buffered(ArmoredReader::new(std::io::BufReader::new(sealed)))
                .map_err(|error| fail(&error))?;
        let identities = self.identities()?;
        let mut reader = decryptor
            .decrypt(
                identities
                    .iter()
                    .map(|identity| &**identity as &dyn age::Identity),
            )
            .map_err(|error| fail(&error))?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| fail(&error))?;
        Ok(SecretValue::new(bytes))
    }
}

impl Age {
    /// One that is told by these variables.
    #[cfg(test)]
    pub(super) fn of(environment: Environment) -> Self {
        Self { environment }
    }

    fn identities(&self) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, SecretError> {
        let named = ["AGE_IDENTITY", "SOPS_AGE_KEY_FILE"];
        let path = named.iter().find_map(|name| self.environment.get(name));
        let path = path.unwrap_or_else(|| self.environment.home(".config/age/keys.txt"));
        let fail = |error: &dyn std::fmt::Display| {
            SecretError::NotConfigured(format!(
                "the identities in {path} can't be read: {error}; set AGE_IDENTITY"
            ))
        };
        let file = age::IdentityFile::from_file(path.clone()).map_err(|error| fail(&error))?;
        file.into_identities().map_err(|error| fail(&error))
    }
}
