//! A connection to a server, with what the server can do.

use tokio::runtime::Runtime;

use crate::capabilities::{self, Capabilities};
use crate::channel::{self, Service};
use crate::storage::Storage;
use crate::{ClusterError, ReapiSettings};

/// A server that answered.
pub(crate) struct Connection {
    pub(crate) runtime: Runtime,
    pub(crate) service: Service,
    pub(crate) storage: Storage,
    pub(crate) capabilities: Capabilities,
}

impl Connection {
    pub(crate) fn open(settings: &ReapiSettings) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| ClusterError::Runtime(error.to_string()))?;
        let (service, capabilities) = runtime.block_on(async {
            let service = channel::open(settings)?;
            let capabilities = capabilities::ask(&service, settings).await?;
            Ok::<_, ClusterError>((service, capabilities))
        })?;
        Ok(Self {
            storage: Storage::new(service.clone(), settings, capabilities),
            runtime,
            service,
            capabilities,
        })
    }
}
