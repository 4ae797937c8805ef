//! Credentials as Docker keeps them: `config.json` and its helpers.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use kiln_tree::host;
use serde::Deserialize;

/// How to log in to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

/// The user's credentials for a registry, if there are any.
///
/// # Errors
/// Why they can't be had, in words for the user: which file, which helper, what it said.
pub(crate) fn find(host: &str) -> Result<Option<Credentials>, String> {
    let Some(path) = config_path() else {
        return Ok(None);
    };
    let bytes = match host::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let helpers: Helpers = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} can't be understood: {error}", path.display()))?;
    let name = if host == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        host
    };
    match get_credential_from_reader(&bytes[..], name) {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credentials::IdentityToken(token))),
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credentials::Password { user, password }))
        }
        Err(error) if is_none(&error) => Ok(None),
        Err(error) => Err(explain(
            &error,
            &helpers.program(name),
            &path.display().to_string(),
        )),
    }
}

fn config_path() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}

/// Which helpers the file names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Helpers {
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<std::collections::BTreeMap<String, String>>,
}

impl Helpers {
    fn program(&self, registry: &str) -> String {
        let own = self.cred_helpers.as_ref().and_then(|all| all.get(registry));
        let name = own.or(self.creds_store.as_ref());
        format!("docker-credential-{}", name.map_or("", String::as_str))
    }
}

/// Whether it only means that the user has never logged in.
fn is_none(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured
        | CredentialRetrievalError::ConfigNotFound => true,
        // What Docker's helpers say, and `docker` itself compares with.
        CredentialRetrievalError::HelperFailure { stdout, .. } => {
            stdout.trim() == "credentials not found in native keychain"
        }
        _ => false,
    }
}

/// What a helper that fails says when it is asked for nothing; `None` when it can't be run.
fn words_of(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("get")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Some(said.trim().chars().take(500).collect())
}

fn explain(error: &CredentialRetrievalError, program: &str, file: &str) -> String {
    match error {
        // It may have ended without reading what it was asked.
        CredentialRetrievalError::HelperCommunicationError => match words_of(program) {
            Some(said) => format!("the credential helper {program} failed: {said}"),
            None => format!(
                "the credential helper {program}, which {file} names, can't be run: install it, or remove it there"
            ),
        },
        CredentialRetrievalError::MalformedHelperResponse => {
            format!("what the credential helper {program} answers can't be understood")
        }
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. } => {
            let said = [stdout.trim(), stderr.trim()];
            let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
            let said: String = said.join("; ").chars().take(500).collect();
            format!("the credential helper {program} failed: {said}")
        }
        CredentialRetrievalError::CredentialDecodingError
        | CredentialRetrievalError::CredentialMismatchError => {
            format!("the registry's 'auth' in {file} can't be understood: {error}")
        }
        other => format!("{file}: {other}"),
    }
}
