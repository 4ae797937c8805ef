//! A small server of the Remote Execution API with one worker, for what real servers don't do on
//! demand: it breaks, lies and loses things as it is told. Its worker runs actions in directories of
//! their own, without a sandbox, as the tests' user or as another.

mod execution;
mod storage;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::byte_stream_server::ByteStreamServer;
use bazel_remote_apis::google::longrunning::operations_server::OperationsServer;
use reapi::capabilities_server::{Capabilities, CapabilitiesServer};
use reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use reapi::execution_server::ExecutionServer;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The first action finds that an input is gone.
    LosesAnInput,
    /// Before the third action it loses what those before it gave.
    LosesResults,
    /// Streams of progress end before their actions do.
    BreaksStreams,
    /// It fails the first action, as a server that restarts.
    IsAwayOnce,
    /// It fails every action.
    Fails,
    /// Workers end without having done anything.
    DoesNothing,
    /// Bytes of outputs are flipped when they are read.
    Lies,
    /// Outputs are sent as messages without bytes, for ever.
    SaysNothing,
    /// Outputs are sent a byte at a time, and the stream breaks.
    Drips,
    /// Outputs can't be read.
    LosesOutputs,
    /// No worker ever takes an action.
    OnlyQueues,
    /// It takes no actions with the property `pool`.
    KnowsNoPool,
    /// It asks for a header.
    Refuses,
    /// It executes nothing.
    OnlyStores,
}

/// What the server's parts share.
#[derive(Debug)]
struct State {
    fault: Fault,
    /// Whom actions run as; nobody: the tests' user.
    user: Option<String>,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// Digests of outputs, which faults are about.
    outputs: Mutex<Vec<String>>,
    actions: AtomicUsize,
    cancelled: AtomicUsize,
    uploaded: AtomicUsize,
    downloaded: AtomicUsize,
    /// Processes of actions.
    running: Mutex<Vec<u32>>,
    /// What the last action wrote to its standard output.
    log: Mutex<Log>,
    /// What each action asked of its worker: `NAME=VALUE`, sorted.
    asked: Mutex<Vec<Vec<String>>>,
}

/// The standard output of an action.
#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    /// Whether the action has ended.
    is_whole: bool,
}

/// A running server, for as long as it is held.
#[derive(Debug)]
pub struct Cluster {
    runtime: Option<tokio::runtime::Runtime>,
    address: String,
    scheme: &'static str,
    state: Arc<State>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// A server whose worker runs actions as `user`, where something goes wrong.
    #[must_use]
    pub fn start(user: Option<&str>, fault: Fault) -> Self {
        Self::serve(user, fault, tonic::transport::Server::builder(), "grpc")
    }

    /// One that encrypts, and knows clients by certificates of its authority (see
    /// [`crate::certificates`]).
    #[must_use]
    pub fn start_encrypted(certificates: &Path) -> Self {
        let read = |name: &str| std::fs::read(certificates.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("server.pem"), read("server.key")))
            .client_ca_root(Certificate::from_pem(read("ca.pem")));
        let server = tonic::transport::Server::builder();
        Self::serve(None, Fault::None, server.tls_config(tls).unwrap(), "grpcs")
    }

    fn serve(
        user: Option<&str>,
        fault: Fault,
        mut server: tonic::transport::Server,
        scheme: &'static str,
    ) -> Self {
        let state = Arc::new(State {
            fault,
            user: user.map(str::to_owned),
            blobs: Mutex::default(),
            outputs: Mutex::default(),
            actions: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            uploaded: AtomicUsize::new(0),
            downloaded: AtomicUsize::new(0),
            running: Mutex::default(),
            log: Mutex::default(),
            asked: Mutex::default(),
        });
        let address = crate::free_address();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let shared = Shared(state.clone());
        let router = server
            .add_service(CapabilitiesServer::new(shared.clone()))
            .add_service(
                ContentAddressableStorageServer::new(shared.clone())
                    .max_decoding_message_size(16 << 20),
            )
            .add_service(ByteStreamServer::new(shared.clone()))
            .add_service(OperationsServer::new(shared.clone()))
            .add_service(ExecutionServer::new(shared));
        _ = runtime.spawn(router.serve(address));
        crate::wait_for_listener(address);
        Self {
            runtime: Some(runtime),
            address: address.to_string(),
            scheme,
            state,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Its address as kiln takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The same with a small kiln for its worker: the debugger's part of the tests' own is most of it.
    #[must_use]
    pub fn executor(&self) -> String {
        let helper = self.directory.path().join("kiln");
        let kiln = crate::kiln_binary();
        if !helper.exists() {
            _ = crate::run(
                "strip",
                &["-o".as_ref(), helper.as_os_str(), kiln.as_os_str()],
            )
            .ok();
        }
        format!("{},helper={}", self.url(), helper.display())
    }

    /// How many actions it was sent.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.state.actions.load(Ordering::SeqCst)
    }

    /// How many bytes it was asked for.
    #[must_use]
    pub fn downloaded(&self) -> usize {
        self.state.downloaded.load(Ordering::SeqCst)
    }

    /// Forgets what actions gave.
    pub fn forget_outputs(&self) {
        self.state.forget_outputs();
    }

    /// What each action asked of its worker: `NAME=VALUE`, sorted.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<String>> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How many actions it was asked to cancel.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// How many bytes it was sent.
    #[must_use]
    pub fn uploaded(&self) -> usize {
        self.state.uploaded.load(Ordering::SeqCst)
    }
}

impl Drop for Cluster {
    /// As a machine that dies: what runs on it dies with it.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.state.kill_all();
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<State>);

type Answer<T> = Result<Response<T>, Status>;

impl State {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match self.fault == Fault::Refuses && request.metadata().get("x-key").is_none() {
            true => Err(Status::permission_denied("who are you?")),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Capabilities for Shared {
    async fn get_capabilities(
        &self,
        request: Request<reapi::GetCapabilitiesRequest>,
    ) -> Answer<reapi::ServerCapabilities> {
        self.0.check(&request)?;
        Ok(Response::new(reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                digest_functions: vec![1],
                ..reapi::CacheCapabilities::default()
            }),
            execution_capabilities: Some(reapi::ExecutionCapabilities {
                exec_enabled: self.0.fault != Fault::OnlyStores,
                ..reapi::ExecutionCapabilities::default()
            }),
            ..reapi::ServerCapabilities::default()
        }))
    }
}
