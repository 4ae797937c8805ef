//! Addresses, connections, and how the server ends.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kiln_engine::Engine;
use kiln_tree::host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::server::{Options, Server};
use crate::service;

/// How long builds may take to end when the server does.
const GRACE: Duration = Duration::from_secs(10);
/// A connection that doesn't answer for this long is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Errors and ignore lists travel in headers; Go's own limit.
const MAX_HEADERS: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls at once on one connection.
const MAX_STREAMS: u32 = 1000;

/// Where a server listens: `unix://PATH` or `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of this machine.
    Tcp(SocketAddr),
}

/// A text that is no address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address to listen at: write unix://PATH or tcp://IP:PORT")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let wrong = || BadAddress(text.to_owned());
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", place)) => {
                let place = place.replacen("localhost", "127.0.0.1", 1);
                let place = match place.strip_prefix(':') {
                    Some(port) => format!("0.0.0.0:{port}"),
                    None => place,
                };
                place.parse().map(Self::Tcp).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(place) => write!(f, "tcp://{place}"),
        }
    }
}

/// Why a server can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It can't listen at an address.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else answers there.
    #[error("cannot listen at {0}: another server answers there")]
    InUse(Address),
    /// Anybody who reaches the port could build.
    #[error(
        "cannot listen at {0}: without TLS whoever reaches it may run commands here as the server's user; listen at 127.0.0.1 or at a socket (unix://PATH)"
    )]
    Open(Address),
    /// There is no runtime.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// A socket that is listened at.
enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// Serves until `stop` is done: then builds are cancelled, and their clients told. `ready` is called
/// when clients can connect. Blocks.
///
/// # Errors
/// When it can't be started.
pub fn serve(
    engine: Engine,
    options: &Options,
    ready: impl FnOnce(&[Address]),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let handle = runtime.handle().clone();
    let done = runtime.block_on(async {
        let server = Arc::new(Server::new(engine, handle, options));
        server.mirrors.expire();
        let mut listeners = Vec::new();
        for address in &options.addresses {
            listeners.push(listen(address).await?);
        }
        let stopping = CancellationToken::new();
        // Each connection holds the sender: when all are gone, there is nothing to receive.
        let (connections, mut all_gone) = mpsc::channel(1);
        let mut sockets = Vec::new();
        for listener in listeners {
            if let Listener::Unix(_, path) = &listener {
                sockets.push(path.clone());
            }
            let (server, stopping) = (server.clone(), stopping.clone());
            tokio::spawn(accept(listener, server, stopping, connections.clone()));
        }
        ready(&options.addresses);
        stop.await;
        for socket in sockets {
            _ = host::remove_file(socket);
        }
        server.jobs.stop();
        server.jobs.ended(GRACE).await;
        stopping.cancel();
        drop(connections);
        _ = tokio::time::timeout(Duration::from_secs(1), all_gone.recv()).await;
        server.engine.close();
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn listen(address: &Address) -> Result<Listener, ServeError> {
    let failed = |source| ServeError::Listen {
        address: address.clone(),
        source,
    };
    match address {
        Address::Unix(path) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ServeError::InUse(address.clone()));
            }
            bind_unix(path).map_err(failed)
        }
        Address::Tcp(place) if !place.ip().is_loopback() => Err(ServeError::Open(address.clone())),
        Address::Tcp(place) => {
            let listener = TcpListener::bind(place).await.map_err(failed)?;
            Ok(Listener::Tcp(listener))
        }
    }
}

/// Listens at a socket that only its owner, and root, may use. What a server that died left there is
/// removed.
fn bind_unix(path: &Path) -> std::io::Result<Listener> {
    use std::os::unix::fs::FileTypeExt as _;
    if let Some(parent) = path.parent() {
        host::create_dir_all(parent)?;
    }
    if host::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        host::remove_file(path)?;
    }
    // Nobody gets in between: it is made beside, and takes its name when its mode is set.
    let aside = host::aside(path);
    _ = host::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    host::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))?;
    host::rename(&aside, path)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

async fn accept(
    listener: Listener,
    server: Arc<Server>,
    stopping: CancellationToken,
    alive: mpsc::Sender<()>,
) {
    loop {
        let shared = (server.clone(), stopping.clone(), alive.clone());
        let accepted = tokio::select! {
            accepted = next(&listener, shared) => accepted,
            () = stopping.cancelled() => return,
        };
        if accepted.is_err() {
            // Too many files are open, say: it may be better soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Accepts one connection, and serves it beside others.
async fn next(
    listener: &Listener,
    (server, stopping, alive): (Arc<Server>, CancellationToken, mpsc::Sender<()>),
) -> std::io::Result<()> {
    match listener {
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream, server, stopping, alive));
        }
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream, server, stopping, alive));
        }
    }
    Ok(())
}

/// Serves one connection. One that says nothing, or garbage, is its own affair.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Arc<Server>,
    stopping: CancellationToken,
    _alive: mpsc::Sender<()>,
) {
    let answer = service_fn(move |request| {
        let server = server.clone();
        let answer = service::answer(server, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    let serving = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stopping.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    _ = serving.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["unix:///run/kiln/kiln.sock", "tcp://127.0.0.1:1234"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let all: Address = "tcp://:1234".parse().unwrap();
        assert_eq!(all.to_string(), "tcp://0.0.0.0:1234");
        for text in [
            "",
            "unix://",
            "unix://run",
            "tcp://",
            "tcp://x:y",
            "fd://",
            "/run/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
