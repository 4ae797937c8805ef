//! Credentials as Docker keeps them: `config.json` and its helpers.

use docker_credential::DockerCredential;

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
pub(crate) fn find(host: &str) -> Option<Credentials> {
    let name = if host == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        host
    };
    match docker_credential::get_credential(name).ok()? {
        DockerCredential::IdentityToken(token) => Some(Credentials::IdentityToken(token)),
        DockerCredential::UsernamePassword(user, password) => {
            Some(Credentials::Password { user, password })
        }
    }
}
