//! BuildKit's API over kiln: what `docker buildx`, `docker compose`, `buildctl` and Go programs on
//! BuildKit's client speak builds with kiln's engine, store and cache.
//!
//! ```text
//! address    where a server listens
//! socket     sockets, bound or inherited
//! tls        TLS for connections over TCP
//! listen     connections, shutdown
//! service    from a request's path to what answers it
//! other_api  an API that is answered beside BuildKit's
//! grpc       calls as functions; limits of messages
//! control    moby.buildkit.v1.Control: builds, their status, workers, disk usage
//! bridge     moby.buildkit.v1.frontend.LLBBridge: a client that runs the frontend itself
//! container  containers of results, and the processes that clients run in them
//! session    what is called in the client: files, secrets, SSH agents, credentials
//! build      from a frontend's attributes to a solved build, and to what the exporters want
//! client     the other side, for connections through containers and over SSH
//! history    builds that have ended, and their blobs
//! progress   the engine's events as vertexes, statuses and logs
//! entitlement what builds may do beyond what every build may
//! job        one build by its reference; what its calls share
//! connection which connection a request came by
//! result_ref names of results, in the shape of definitions
//! about_source what is told of sources before they are used
//! collect    what goes from the store after builds
//! error      failures as gRPC statuses with BuildKit's details
//! serve_error why a server can't be started
//! ```
//!
//! Nothing that a client says is believed: its files are checked as they come (`session::receive`),
//! its attributes name no file of this machine, and what it may ask for beyond every build's due is
//! what [`Options`] grant.

mod about_source;
mod address;
mod bridge;
mod build;
mod client;
mod collect;
mod connection;
mod container;
mod control;
mod entitlement;
mod error;
mod grpc;
mod history;
mod job;
mod listen;
mod other_api;
mod progress;
mod proto;
mod result_ref;
mod serve_error;
mod server;
mod service;
mod session;
mod socket;
#[cfg(test)]
mod test_entry;
mod tls;

pub use address::{Address, BadAddress};
pub use client::{ClientError, Worker, dial_stdio, workers};
pub use history::HistoryLimits;
pub use listen::serve;
pub use other_api::{Answer, Call, OtherApi};
pub use serve_error::ServeError;
pub use server::{Frontends, Options};
pub use session::fuzz;
pub use socket::SocketOwner;
pub use tls::{BadTls, Tls};
