//! A read-only registry (OCI distribution specification, "Pull") over the store: what daemons of this
//! machine pull from it comes out of the store, or from the registry above it, by differences where
//! an earlier image is here.
//!
//! The mirror lets nobody in by itself. Each request is made to the registry above with the
//! `Authorization` header that its caller sent, or with none, and what that registry refuses is refused.
//! Only [`Access::Offline`] serves the named images of the store without asking anybody.

mod answer;
mod blob;
mod caller;
mod manifest;
mod patient;
mod route;
mod server;
mod upstream;

use std::sync::Arc;

use kiln_cache::Store;
use kiln_execute::Snapshotter;
use kiln_image::ClientOptions;
use kiln_solve::EventSink;

use caller::Callers;
pub use server::{MirrorError, Serving};
pub use upstream::Upstreams;

/// Who says what may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// These registries, for each request.
    Upstream(Upstreams),
    /// Nobody: whoever reaches the mirror may read the images that have names in the store. Names
    /// without a host are those of the first registry.
    Offline(Upstreams),
}

impl Access {
    fn upstreams(&self) -> &Upstreams {
        match self {
            Self::Upstream(upstreams) | Self::Offline(upstreams) => upstreams,
        }
    }
}

/// A mirror.
pub struct Mirror {
    store: Store,
    access: Access,
    callers: Callers,
    events: Arc<dyn EventSink>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Mirror {
    /// A mirror over the store of `trees`. Registries are spoken to as `options` say, whose credentials
    /// are not used.
    #[must_use]
    pub fn new(
        trees: &Snapshotter,
        options: ClientOptions,
        access: Access,
        events: Arc<dyn EventSink>,
    ) -> Self {
        Self {
            store: trees.store.clone(),
            access,
            callers: Callers::new(trees.clone(), options),
            events,
        }
    }
}
