//! Credentials and tokens for registries, asked of the client for each challenge and never stored.

use std::sync::Arc;

use kiln_image::{CredentialProvider, Credentials, WantedToken};
use tokio::runtime::Handle;

use super::Session;
use super::call::is_absent;
use crate::proto::filesync::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
};

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const TOKEN: &str = "/moby.filesync.v1.Auth/FetchToken";

/// The client's credentials.
pub(crate) struct SessionCredentials {
    runtime: Handle,
    session: Arc<Session>,
}

impl SessionCredentials {
    /// Those of a session.
    pub(crate) fn new(runtime: Handle, session: Arc<Session>) -> Self {
        Self { runtime, session }
    }
}

/// A registry as clients know it.
fn known_host(host: &str) -> String {
    match host {
        "docker.io" => "registry-1.docker.io".to_owned(),
        host => host.to_owned(),
    }
}

impl CredentialProvider for SessionCredentials {
    fn credentials(&self, host: &str) -> Result<Option<Credentials>, String> {
        if !self.session.offers(CREDENTIALS) {
            return Ok(None);
        }
        let request = CredentialsRequest {
            host: known_host(host),
        };
        let answer = self.session.unary(CREDENTIALS, request);
        let answer: CredentialsResponse = match self.runtime.block_on(answer) {
            Ok(answer) => answer,
            Err(status) if is_absent(&status) => return Ok(None),
            Err(status) => return Err(format!("the client: {}", status.message())),
        };
        Ok(
            match (answer.username.is_empty(), answer.secret.is_empty()) {
                (true, true) => None,
                (true, false) => Some(Credentials::IdentityToken(answer.secret)),
                (false, _) => Some(Credentials::Password {
                    user: answer.username,
                    password: answer.secret,
                }),
            },
        )
    }

    fn token(&self, wanted: &WantedToken<'_>) -> Result<Option<String>, String> {
        if !self.session.offers(TOKEN) {
            return Ok(None);
        }
        let request = FetchTokenRequest {
            client_id: "buildkit-client".to_owned(),
            host: known_host(wanted.host),
            realm: wanted.realm.to_owned(),
            service: wanted.service.to_owned(),
            scopes: wanted.scopes.to_vec(),
        };
        let answer = self.session.unary(TOKEN, request);
        let answer: Result<FetchTokenResponse, _> = self.runtime.block_on(answer);
        match answer {
            Ok(answer) if answer.token.is_empty() => Ok(None),
            Ok(answer) => Ok(Some(answer.token)),
            Err(status) if is_absent(&status) => Ok(None),
            Err(status) => Err(format!("the client: {}", status.message())),
        }
    }
}
