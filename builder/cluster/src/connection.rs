//! A connection to a server, with what the server can do.

use std::sync::Arc;

use kiln_solve::{Cancel, CancelHook};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

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

    /// Waits for what the network does, until the step is cancelled.
    pub(crate) fn wait<T>(
        &self,
        cancel: &Cancel,
        work: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        let (stop, _guard) = notified(cancel);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.notified() => Err(ClusterError::Cancelled),
                done = work => done,
            }
        })
    }
}

/// What is told when a step is cancelled, as long as the guard is kept.
pub(crate) fn notified(cancel: &Cancel) -> (Arc<Notify>, CancelHook) {
    let stop = Arc::new(Notify::new());
    let stopping = stop.clone();
    let guard = cancel.on_cancel(move || stopping.notify_one());
    (stop, guard)
}
