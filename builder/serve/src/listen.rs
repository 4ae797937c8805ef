//! Connections, and how the server ends.

use std::convert::Infallible;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kiln_engine::Engine;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::connection::ConnectionId;
use crate::job::{Bound, Job};
use crate::serve_error::ServeError;
use crate::server::{Options, Server};
use crate::service;
use crate::socket::{Binder, Listener, Sockets};

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

/// Serves until `stop` is done: then builds are cancelled, and their clients told. `ready` is called
/// when clients can connect, with where. `inherited` are the sockets of [`Address::Inherited`]. Blocks.
///
/// # Errors
/// When it can't be started.
pub fn serve(
    engine: Engine,
    options: &Options,
    inherited: Vec<OwnedFd>,
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
        let binder = Binder {
            tls: options.tls.as_ref(),
            owner: options.socket_owner,
            inherited,
        };
        let mut sockets = Sockets::bind(&options.addresses, binder).await?;
        let stopping = CancellationToken::new();
        // Each connection holds the sender: when all are gone, there is nothing to receive.
        let (connections, mut all_gone) = mpsc::channel(1);
        for listener in std::mem::take(&mut sockets.listeners) {
            let (server, stopping) = (server.clone(), stopping.clone());
            tokio::spawn(accept(listener, server, stopping, connections.clone()));
        }
        ready(&sockets.addresses);
        stop.await;
        sockets.unlink();
        server.jobs.stop();
        if let Some(other) = &server.other {
            other.stop();
        }
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
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream, server, stopping, alive));
        }
        Listener::Tcp(listener, acceptor) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let Some(acceptor) = acceptor.clone() else {
                tokio::spawn(connection(stream, server, stopping, alive));
                return Ok(());
            };
            tokio::spawn(async move {
                if let Some(stream) = acceptor.accept(stream).await {
                    connection(stream, server, stopping, alive).await;
                }
            });
        }
    }
    Ok(())
}

/// Answers the calls of a frontend that the server runs for a job.
pub(crate) async fn frontend(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Arc<Server>,
    job: Arc<Job>,
) {
    let answer = service_fn(move |mut request: http::Request<Incoming>| {
        _ = request.extensions_mut().insert(Bound(job.clone()));
        let answer = service::answer_frontend(server.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // What goes wrong between them ends the frontend, which is told by that.
    _ = protocol()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// HTTP/2 as BuildKit's clients need it.
pub(crate) fn protocol() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    builder
}

/// Serves one connection. One that says nothing, or garbage, is its own affair.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Arc<Server>,
    stopping: CancellationToken,
    _alive: mpsc::Sender<()>,
) {
    let id = ConnectionId::next();
    let answer = service_fn(move |mut request: http::Request<Incoming>| {
        _ = request.extensions_mut().insert(id);
        let server = server.clone();
        let answer = service::answer(server, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = protocol();
    builder
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let serving = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stopping.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    _ = serving.await;
}
