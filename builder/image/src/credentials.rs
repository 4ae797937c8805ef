//! Credentials as Docker keeps them: `config.json` and its helpers; and those of the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use kiln_tree::host;
use serde::Deserialize;

/// Where credentials for registries are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialSource {
    /// Nowhere: all registries are spoken to as anybody would.
    None,
    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    #[default]
    User,
    /// A file of the same form, such as podman's and skopeo's `auth.json`. It has to be there.
    File(PathBuf),
    /// Somebody who is asked.
    Provider(Provider),
}

/// Is asked for credentials, on threads that may block.
pub trait CredentialProvider: Send + Sync {
    /// How to log in to a registry (`HOST[:PORT]`, Docker Hub's is `docker.io`); `None` for as
    /// anybody would.
    ///
    /// # Errors
    /// Why it can't be had, in words for the user.
    fn credentials(&self, host: &str) -> Result<Option<Credentials>, String>;

    /// A token for a registry, fetched by whoever is asked. `None` when they don't do that: then it
    /// is fetched here, with their credentials.
    ///
    /// # Errors
    /// Why it can't be had, in words for the user.
    fn token(&self, _wanted: &WantedToken<'_>) -> Result<Option<String>, String> {
        Ok(None)
    }
}

/// The token that a registry's challenge asks for (Docker's token authentication).
#[derive(Clone, Copy, Debug)]
pub struct WantedToken<'a> {
    /// The registry.
    pub host: &'a str,
    /// Where tokens are given.
    pub realm: &'a str,
    /// The service's name there.
    pub service: &'a str,
    /// The rights wanted.
    pub scopes: &'a [String],
}

/// A shared [`CredentialProvider`].
#[derive(Clone)]
pub struct Provider(pub Arc<dyn CredentialProvider>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider(…)")
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Provider {}

/// A user's name and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    password: String,
}

impl Login {
    /// A user's name and password.
    #[must_use]
    pub fn new(user: String, password: String) -> Self {
        Self { user, password }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Login");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

/// Logins by registry: `HOST[:PORT]`, Docker Hub's is `docker.io`.
pub type Logins = BTreeMap<String, Login>;

/// How to log in to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// As a user.
    Password {
        /// Their name.
        user: String,
        /// Their password.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The user's credentials for a registry, if there are any.
///
/// # Errors
/// Why they can't be had, in words for the user: which file, which helper, what it said.
pub(crate) fn find(
    host: &str,
    source: &CredentialSource,
    logins: &Logins,
) -> Result<Option<Credentials>, String> {
    if let Some(login) = logins.get(host) {
        return Ok(Some(Credentials::Password {
            user: login.user.clone(),
            password: login.password.clone(),
        }));
    }
    let (path, is_named) = match source {
        CredentialSource::None => return Ok(None),
        CredentialSource::User => (config_path(), false),
        CredentialSource::File(path) => (Some(path.clone()), true),
        CredentialSource::Provider(provider) => return provider.0.credentials(host),
    };
    let Some(path) = path else {
        return Ok(None);
    };
    let bytes = match host::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return Ok(None),
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
    let directory =
        match std::env::var_os("DOCKER_CONFIG").filter(|directory| !directory.is_empty()) {
            Some(directory) => PathBuf::from(directory),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
        };
    Some(directory.join("config.json"))
}

/// Which helpers the file names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Helpers {
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
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
