//! The server's side: a machine that runs orders of steps for others, with the store, the roots and the
//! sandboxes that its own builds have. What it answers is the API as any server's, so a kiln elsewhere needs
//! to know nothing of it.
//!
//! Nothing that a client sends is executed but the commands of steps, in a step's sandbox: an action that is
//! anything else than an order of kiln's is refused, and the program that comes along with an order is not
//! looked at. Orders are held to what leaves a client's machine ([`crate::placement`]): no secrets, no volumes
//! of this machine, not its network but as its own builds have it.
//!
//! ```text
//! blobs        the storage: blobs of the machine's store
//! storage      ContentAddressableStorage, ByteStream
//! results      ActionCache
//! about        Capabilities
//! request      from an action's digest to an order that may be run
//! operation    actions that wait, run, or have ended
//! execution    Execution, Operations
//! work         runs an order
//! ```

mod about;
mod blobs;
mod execution;
mod operation;
mod request;
mod results;
mod storage;
mod work;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::byte_stream_server::ByteStreamServer;
use bazel_remote_apis::google::longrunning::operations_server::OperationsServer;
use kiln_execute::{DefaultNetwork, Snapshotter};
use kiln_sandbox::{Sandbox, Selection};
use reapi::action_cache_server::ActionCacheServer;
use reapi::capabilities_server::CapabilitiesServer;
use reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use reapi::execution_server::ExecutionServer;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError, http};
use tonic::server::NamedService;

use blobs::Blobs;
use operation::Operations;

/// No message is larger, in bytes.
const MAX_MESSAGE: usize = 8 << 20;
/// So many bytes of a stream go into one message.
const CHUNK: usize = 1 << 20;
/// The blobs of a batch, all together in bytes.
const MAX_BATCH: usize = (4 << 20) - (64 << 10);
/// So many blobs may be in a batch: a message also says their digests.
const MAX_BATCH_COUNT: usize = 20_000;

/// What a node runs steps with.
#[derive(Debug)]
pub struct NodeParts {
    /// The store and its trees.
    pub trees: Snapshotter,
    /// Runs processes.
    pub sandbox: Sandbox,
    /// How.
    pub selection: Selection,
    /// The network that steps have which may have one.
    pub network: DefaultNetwork,
    /// How many orders are run at once, at least one.
    pub jobs: usize,
}

/// A machine that runs steps for others. Cheap to clone.
#[derive(Clone)]
pub struct ClusterNode(Arc<Node>);

impl fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterNode")
    }
}

/// What its services share.
struct Node {
    parts: NodeParts,
    blobs: Blobs,
    operations: Operations,
    /// What it is called.
    name: String,
}

/// What a service's function gives.
type Answered<T> = Result<tonic::Response<T>, Status>;
/// A response's messages.
type Messages<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;
/// An answer on its way.
type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// The services of a node.
const SERVICES: [&str; 6] = [
    CapabilitiesServer::<ClusterNode>::NAME,
    ContentAddressableStorageServer::<ClusterNode>::NAME,
    ByteStreamServer::<ClusterNode>::NAME,
    ActionCacheServer::<ClusterNode>::NAME,
    ExecutionServer::<ClusterNode>::NAME,
    OperationsServer::<ClusterNode>::NAME,
];

impl ClusterNode {
    /// A node.
    #[must_use]
    pub fn new(parts: NodeParts) -> Self {
        let host = rustix::system::uname();
        Self(Arc::new(Node {
            blobs: Blobs::new(parts.trees.store.clone()),
            operations: Operations::new(parts.jobs),
            name: host.nodename().to_string_lossy().into_owned(),
            parts,
        }))
    }

    /// Stops what it runs.
    pub fn stop(&self) {
        self.0.operations.stop();
    }

    /// Whether it answers calls of a service, by the service's full name.
    #[must_use]
    pub fn has(&self, service: &str) -> bool {
        SERVICES.contains(&service)
    }

    /// Answers a call of one of its services.
    #[must_use]
    pub fn answer<B>(&self, call: http::Request<B>) -> Answer
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let path = call.uri().path();
        let service = path.split('/').nth(1).unwrap_or_default();
        let node = self.clone();
        // The services' own type has no other way to say its limits.
        macro_rules! serve {
            ($server:ident) => {{
                let server = $server::new(node).max_decoding_message_size(MAX_MESSAGE);
                answered(server.max_encoding_message_size(MAX_MESSAGE), call)
            }};
        }
        match service {
            CapabilitiesServer::<ClusterNode>::NAME => serve!(CapabilitiesServer),
            ContentAddressableStorageServer::<ClusterNode>::NAME => {
                serve!(ContentAddressableStorageServer)
            }
            ByteStreamServer::<ClusterNode>::NAME => serve!(ByteStreamServer),
            ActionCacheServer::<ClusterNode>::NAME => serve!(ActionCacheServer),
            ExecutionServer::<ClusterNode>::NAME => serve!(ExecutionServer),
            OperationsServer::<ClusterNode>::NAME => serve!(OperationsServer),
            _ => {
                let unknown = Status::unimplemented("there is no such service");
                Box::pin(std::future::ready(unknown.into_http()))
            }
        }
    }
}

fn answered<S, B>(mut server: S, call: http::Request<B>) -> Answer
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    let answer = server.call(call);
    Box::pin(async move { answer.await.unwrap_or_else(|never| match never {}) })
}

/// Whether a request is for what there is: one instance without a name, and SHA-256.
fn check(instance: &str, digest_function: i32) -> Result<(), Status> {
    let sha256 = reapi::digest_function::Value::Sha256 as i32;
    if !instance.is_empty() {
        let text = format!("there is no instance '{instance}': leave it out");
        return Err(Status::invalid_argument(text));
    }
    match digest_function {
        0 => Ok(()),
        known if known == sha256 => Ok(()),
        _ => Err(Status::invalid_argument("digests are SHA-256 here")),
    }
}

/// Runs what blocks beside what answers calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("a call failed")))
}
