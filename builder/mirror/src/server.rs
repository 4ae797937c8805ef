//! Listens, and answers requests. What asks registries or reads the store blocks, and is done on threads
//! for that.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::answer::{self, Body, Refusal};
use crate::caller::Caller;
use crate::patient::Patient;
use crate::route::Route;
use crate::{Access, Mirror};

/// More connections wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be silent before a request is whole.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a caller may take nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pause after a connection can't be taken: there may be no descriptor for it.
const PAUSE: Duration = Duration::from_millis(100);

/// A mirror that can't be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct MirrorError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A mirror that listens.
#[derive(Debug)]
pub struct Serving {
    listener: TcpListener,
    mirror: Arc<Mirror>,
}

impl Serving {
    /// Listens at an address.
    ///
    /// # Errors
    /// When it can't be listened at.
    pub async fn bind(mirror: Mirror, address: SocketAddr) -> Result<Self, MirrorError> {
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: listener.map_err(|source| MirrorError { address, source })?,
            mirror: Arc::new(mirror),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is done.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let serve = async {
            loop {
                let Ok(slot) = slots.clone().acquire_owned().await else {
                    return;
                };
                let Ok((stream, _)) = self.listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let mirror = self.mirror.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| handle(mirror.clone(), request));
                    let mut server = http1::Builder::new();
                    _ = server.timer(TokioTimer::new()).header_read_timeout(SILENCE);
                    // A caller that hangs up has its reasons.
                    let stream = TokioIo::new(Patient::new(stream, PATIENCE));
                    _ = server.serve_connection(stream, service).await;
                    drop(slot);
                });
            }
        };
        tokio::select! {
            () = serve => {}
            () = stop => {}
        }
    }
}

async fn handle(
    mirror: Arc<Mirror>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(respond(mirror, &request)
        .await
        .unwrap_or_else(Refusal::answer))
}

async fn respond(
    mirror: Arc<Mirror>,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        let text = "this mirror can only be read";
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            text,
        ));
    }
    let path = request.uri().path();
    let route = Route::of(path).ok_or_else(|| Refusal::unknown(format!("nothing is at {path}")))?;
    let header = |name| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    let (authorization, range) = (header(AUTHORIZATION), header(RANGE));
    let ns = parameter(request.uri().query().unwrap_or_default(), "ns");
    match route {
        Route::Ping => blocking(move || mirror.ping(authorization.is_some())).await,
        Route::Manifest { name, reference } => {
            let served = blocking(move || {
                let caller = mirror.caller(authorization);
                mirror.manifest(&caller, (&name, ns.as_deref()), &reference)
            });
            Ok(served.await?.answer(is_head))
        }
        Route::Blob { name, digest } => {
            let found = blocking(move || {
                let caller = mirror.caller(authorization);
                let _session = mirror.store.session()?;
                mirror.blob(&caller, (&name, ns.as_deref()), &digest)
            });
            answer::blob(&found.await?, range.as_deref(), is_head).await
        }
    }
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let text = "the request could not be answered";
        Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            text,
        ))
    })
}

/// A parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut own = pairs.filter(|(key, _)| *key == name);
    own.next().map(|(_, value)| value.replace("%3A", ":"))
}

impl Mirror {
    fn caller(&self, authorization: Option<String>) -> Caller {
        self.callers.get(authorization)
    }

    /// Says that this is a registry, or how to log in at the one above: clients ask this first.
    fn ping(&self, is_let_in: bool) -> Result<Response<Body>, Refusal> {
        if let Access::Upstream(upstreams) = &self.access
            && !is_let_in
            && let Some(challenge) = self.caller(None).trees.client.challenge(upstreams.first())
        {
            let text = format!("log in at {}", upstreams.first());
            return Err(Refusal {
                challenge: Some(challenge),
                ..Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text)
            });
        }
        Ok(answer::pong())
    }
}
