//! What a client is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Documents;
use crate::credentials::{CredentialSource, Logins};
use crate::registry::Registries;

/// What a client is told.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// How long to wait before the second try; it doubles with each try. Zero: half a second.
    pub first_wait: Duration,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Whether no registry's certificate is checked, and plain HTTP is spoken to those without TLS.
    pub insecure: bool,
    /// A directory with certificates of authorities (`*.crt`) to trust besides the usual ones, and
    /// a certificate of the client's own (`NAME.cert`) with its key (`NAME.key`), all PEM.
    pub certificates: Option<PathBuf>,
    /// Where credentials for registries are looked for.
    pub credentials: CredentialSource,
    /// Credentials that come before those.
    pub logins: Logins,
    /// Keeps what was fetched.
    pub documents: Option<Arc<dyn Documents>>,
}

impl ClientOptions {
    /// How long to wait before the second try.
    #[must_use]
    pub fn first_pause(&self) -> Duration {
        match self.first_wait {
            Duration::ZERO => Duration::from_millis(500),
            given => given,
        }
    }
}
