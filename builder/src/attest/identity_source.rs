//! Where a token comes from that says who signs.
//!
//! Given: `env:NAME`, `file:PATH`, the path of a file, or the token itself, as cosign's `--identity-token` takes
//! it. Else what a CI gives: the variable `SIGSTORE_ID_TOKEN` (GitLab's `id_tokens`), or GitHub's service for
//! jobs with the permission `id-token: write`
//! (<https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token>).

use std::path::{Path, PathBuf};

use kiln_attest::keyless::IdentityToken;
use kiln_image::Client;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::Error;

/// The variable that a CI has put a token in.
const VARIABLE: &str = "SIGSTORE_ID_TOKEN";
/// GitHub's service, and what lets a job ask it.
const GITHUB_ADDRESS: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// For whom tokens are issued.
const AUDIENCE: &str = "sigstore";

/// Where a token comes from. It is read when something is signed: tokens hold for minutes.
#[derive(Clone)]
pub(super) enum IdentitySource {
    Variable(String),
    File(PathBuf),
    Given(IdentityToken),
    GitHub {
        address: String,
        token: Zeroizing<String>,
    },
}

/// What a token is not in.
impl std::fmt::Debug for IdentitySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Self::Variable(name) => format!("the variable {name}"),
            Self::File(path) => format!("the file {}", path.display()),
            Self::Given(_) => "a token".to_owned(),
            Self::GitHub { address, .. } => format!("GitHub at {address}"),
        })
    }
}

#[derive(Deserialize)]
struct GitHubAnswer {
    value: String,
}

impl IdentitySource {
    /// What is given, or what the CI gives; a token that is there already is looked at.
    pub(super) fn read(given: Option<&str>) -> Result<Self, String> {
        let source = match given {
            Some(text) => Self::given(text)?,
            None => Self::of_ci().ok_or_else(|| {
                format!(
                    "nothing says who signs: give an identity token by token=env:NAME or file:PATH, or in {VARIABLE}; a job of GitHub needs 'permissions: id-token: write'"
                )
            })?,
        };
        match &source {
            Self::Variable(name) => _ = of_variable(name)?,
            Self::File(path) => _ = of_file(path)?,
            Self::Given(_) | Self::GitHub { .. } => {}
        }
        Ok(source)
    }

    fn given(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env:") {
            return Ok(Self::Variable(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::File(path.into()));
        }
        if let Ok(token) = IdentityToken::read(text) {
            return Ok(Self::Given(token));
        }
        match Path::new(text).exists() {
            true => Ok(Self::File(text.into())),
            false => Err("the identity token is neither a JSON Web Token nor a file".to_owned()),
        }
    }

    fn of_ci() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        if variable(VARIABLE).is_some() {
            return Some(Self::Variable(VARIABLE.to_owned()));
        }
        Some(Self::GitHub {
            address: variable(GITHUB_ADDRESS)?,
            token: Zeroizing::new(variable(GITHUB_TOKEN)?),
        })
    }

    /// The token as it is now.
    pub(super) fn token(&self, client: &Client) -> Result<IdentityToken, Error> {
        let usage = |reason: String| Error::Usage(format!("--sign keyless: {reason}"));
        let token = match self {
            Self::Variable(name) => of_variable(name).map_err(usage)?,
            Self::File(path) => of_file(path).map_err(usage)?,
            Self::Given(token) => token.clone(),
            Self::GitHub { address, token } => ask_github(client, address, token)?,
        };
        token.check(crate::millis::now() / 1000)?;
        Ok(token)
    }
}

fn of_variable(name: &str) -> Result<IdentityToken, String> {
    let text = std::env::var(name);
    let text = text.map_err(|_| format!("there is no variable {name}"))?;
    parsed(&Zeroizing::new(text))
}

fn of_file(path: &Path) -> Result<IdentityToken, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parsed(&Zeroizing::new(text))
}

fn parsed(text: &str) -> Result<IdentityToken, String> {
    IdentityToken::read(text).map_err(|error| error.to_string())
}

fn ask_github(client: &Client, address: &str, token: &str) -> Result<IdentityToken, Error> {
    let service = super::keyless::Service::new("GitHub's identity tokens", address)
        .map_err(|reason| Error::Usage(format!("{GITHUB_ADDRESS}: {reason}")))?;
    let separator = if address.contains('?') { '&' } else { '?' };
    let path = format!("{separator}audience={AUDIENCE}");
    let header = ("Authorization".to_owned(), format!("bearer {token}"));
    let answer = service.get(client, &path, &[header])?;
    let answer: GitHubAnswer = serde_json::from_slice(&answer)
        .map_err(|_| service.failed("its answer has no token".to_owned()))?;
    Ok(IdentityToken::read(&answer.value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_given() {
        // {"sub":"a"}
        const TOKEN: &str = "e30.eyJzdWIiOiJhIn0.x";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let file = file.display().to_string();
        let read = |text: &str| IdentitySource::read(Some(text));
        for good in [TOKEN, &file, &format!("file:{file}")] {
            let source = read(good).unwrap();
            assert!(!format!("{source:?}").contains(TOKEN));
        }
        std::fs::write(directory.path().join("other"), "garbage").unwrap();
        let other = directory.path().join("other").display().to_string();
        let cases = [
            ("env:NO_SUCH_VARIABLE_HERE", "there is no variable"),
            ("file:/no/such/file", "cannot read /no/such/file"),
            ("garbage", "neither a JSON Web Token nor a file"),
            (&other, "no JSON Web Token"),
        ];
        for (text, want) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
