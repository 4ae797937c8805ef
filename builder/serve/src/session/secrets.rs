//! Secrets and SSH agents of the client's, for the steps of a build.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::{SecretError, SecretProvider, SecretValue};
use tokio::runtime::Handle;

use super::Session;
use super::call::is_absent;
use super::ssh::Agents;
use crate::proto::secrets::{GetSecretRequest, GetSecretResponse};

const PATH: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
/// A secret is no larger, in bytes: what BuildKit allows.
const MAX_SECRET: usize = 500 << 10;

/// What the client has for one build; asked for once each, and kept no longer than the build.
pub(crate) struct SessionSecrets {
    runtime: Handle,
    session: Arc<Session>,
    known: Mutex<HashMap<String, Option<SecretValue>>>,
    agents: Agents,
}

impl SessionSecrets {
    /// The secrets of a session. `scratch` is a directory for the sockets of agents.
    pub(crate) fn new(runtime: Handle, session: Arc<Session>, scratch: PathBuf) -> Self {
        Self {
            agents: Agents::new(runtime.clone(), session.clone(), scratch),
            runtime,
            session,
            known: Mutex::default(),
        }
    }

    fn fetch(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        if !self.session.offers(PATH) {
            return Ok(None);
        }
        let request = GetSecretRequest {
            id: id.to_owned(),
            annotations: HashMap::new(),
        };
        let answer = self.session.unary(PATH, request);
        let answer: GetSecretResponse = match self.runtime.block_on(answer) {
            Ok(answer) => answer,
            Err(status) if is_absent(&status) => return Ok(None),
            Err(status) => return Err(SecretError::Unreachable(status.message().to_owned())),
        };
        match answer.data.len() {
            0..=MAX_SECRET => Ok(Some(SecretValue::new(answer.data))),
            _ => Err(SecretError::Unsuitable(format!(
                "it is larger than {} KiB",
                MAX_SECRET >> 10
            ))),
        }
    }
}

impl SecretProvider for SessionSecrets {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.get(id) {
            return Ok(value.clone());
        }
        let value = self.fetch(id)?;
        known.insert(id.to_owned(), value.clone());
        Ok(value)
    }

    fn at_hand(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.get(id).cloned().flatten())
    }

    fn ssh_agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.socket(id)
    }
}
