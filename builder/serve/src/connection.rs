//! Connections by number: what belongs to a build is asked for where the build was.

use std::sync::atomic::{AtomicU64, Ordering};

use tonic::{Request, Status};

/// One connection of a client's, in this process. It goes with each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// That of a connection that begins.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The connection that a request came by.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let known = request.extensions().get().copied();
        known.ok_or_else(|| Status::internal("a request without a connection"))
    }
}
