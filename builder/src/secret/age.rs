//! `age:FILE`: a file encrypted with age (<https://age-encryption.org>), armoured or not.
//!
//! Identities come from the file that `AGE_IDENTITY` or `SOPS_AGE_KEY_FILE` names, else from
//! `~/.config/age/keys.txt`.

use std::io::Read as _;

use age::armor::ArmoredReader;
use kiln_engine::SecretValue;

use super::SecretSource;

pub(super) struct Age;

impl SecretSource for Age {
    fn name(&self) -> &'static str {
        "age"
    }

    fn fetch(&self, file: &str) -> Result<SecretValue, String> {
        let sealed = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
        let fail = |error: &dyn std::fmt::Display| format!("{file} can't be decrypted: {error}");
        let decryptor =
            age::Decryptor::new_buffered(ArmoredReader::new(std::io::BufReader::new(sealed)))
                .map_err(|error| fail(&error))?;
        let identities = identities()?;
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

fn identities() -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, String> {
    let named = ["AGE_IDENTITY", "SOPS_AGE_KEY_FILE"];
    let path = named.iter().find_map(|name| std::env::var(name).ok());
    let home = std::env::var("HOME").unwrap_or_default();
    let path = path.unwrap_or_else(|| format!("{home}/.config/age/keys.txt"));
    let fail = |error: &dyn std::fmt::Display| {
        format!("the identities in {path} can't be read: {error}; set AGE_IDENTITY")
    };
    let file = age::IdentityFile::from_file(path.clone()).map_err(|error| fail(&error))?;
    file.into_identities().map_err(|error| fail(&error))
}
