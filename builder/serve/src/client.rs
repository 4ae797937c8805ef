//! A client of a server: what buildx's connections through containers and over SSH run at the far side.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net;
use std::time::Duration;

use http::uri::{PathAndQuery, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::Address;
use crate::proto::control::{ListWorkersRequest, ListWorkersResponse};
use crate::session::Channel;

const WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";

/// Why a server can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It doesn't answer.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where it should be.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// It didn't answer in time.
    #[error("{0} does not answer")]
    Silent(Address),
    /// It answered something else.
    #[error("the server: {0}")]
    Answer(String),
    /// There is no runtime.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Who builds at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub id: String,
    /// What it builds for: `linux/amd64`.
    pub platforms: Vec<String>,
}

/// A stream in both directions.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

fn runtime() -> Result<tokio::runtime::Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClientError::Runtime)
}

async fn connect(address: &Address) -> Result<Box<dyn Duplex>, ClientError> {
    let failed = |source| ClientError::Connect {
        address: address.clone(),
        source,
    };
    Ok(match address {
        Address::Unix(path) => Box::new(
            tokio::net::UnixStream::connect(path)
                .await
                .map_err(failed)?,
        ),
        Address::Tcp(place) => Box::new(
            tokio::net::TcpStream::connect(place)
                .await
                .map_err(failed)?,
        ),
        Address::Inherited => {
            let text = "only a server listens there";
            return Err(failed(std::io::Error::other(text)));
        }
    })
}

/// A connection of threads: one direction each.
enum Wire {
    Unix(net::UnixStream),
    Tcp(TcpStream),
}

impl Wire {
    #[expect(clippy::disallowed_methods, reason = "the user names the socket")]
    fn connect(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Unix(path) => net::UnixStream::connect(path).map(Self::Unix),
            Address::Tcp(place) => TcpStream::connect(place).map(Self::Tcp),
            Address::Inherited => Err(std::io::Error::other("only a server listens there")),
        }
    }

    fn other(&self) -> std::io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    /// Passes on what comes from elsewhere, until that ends.
    fn send(&mut self, mut from: impl Read) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => {
                std::io::copy(&mut from, stream)?;
                stream.shutdown(Shutdown::Write)
            }
            Self::Tcp(stream) => {
                std::io::copy(&mut from, stream)?;
                stream.shutdown(Shutdown::Write)
            }
        }
    }

    fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(piece),
            Self::Tcp(stream) => stream.read(piece),
        }
    }
}

/// Carries bytes between a server and this process's standard input and output, until the server ends the
/// connection.
///
/// # Errors
/// When the server can't be reached, or the connection breaks.
pub fn dial_stdio(address: &Address) -> Result<(), ClientError> {
    let failed = |source| ClientError::Connect {
        address: address.clone(),
        source,
    };
    let mut incoming = Wire::connect(address).map_err(failed)?;
    let mut outgoing = incoming.other().map_err(failed)?;
    // It may still wait for standard input when the server has ended: it ends with the process.
    std::thread::spawn(move || outgoing.send(std::io::stdin().lock()));
    let broken = |error: std::io::Error| ClientError::Answer(error.to_string());
    let mut out = std::io::stdout().lock();
    let mut piece = vec![0; 64 << 10];
    // Each piece is passed on at once: whoever reads waits for it before they send more.
    while let count @ 1.. = incoming.read(&mut piece).map_err(broken)? {
        out.write_all(&piece[..count]).map_err(broken)?;
        out.flush().map_err(broken)?;
    }
    Ok(())
}

/// Who builds at a server; the question is given up after `patience`.
///
/// # Errors
/// When the server can't be reached, or doesn't answer.
pub fn workers(address: &Address, patience: Duration) -> Result<Vec<Worker>, ClientError> {
    let runtime = runtime()?;
    let answer = runtime.block_on(async { tokio::time::timeout(patience, ask(address)).await });
    let answer = answer.map_err(|_| ClientError::Silent(address.clone()))??;
    let platform = |one: &crate::proto::pb::Platform| match one.variant.as_str() {
        "" => format!("{}/{}", one.os, one.architecture),
        variant => format!("{}/{}/{variant}", one.os, one.architecture),
    };
    let workers = answer.record.into_iter().map(|worker| Worker {
        platforms: worker.platforms.iter().map(platform).collect(),
        id: worker.id,
    });
    Ok(workers.collect())
}

async fn ask(address: &Address) -> Result<ListWorkersResponse, ClientError> {
    let said = |status: Status| ClientError::Answer(status.message().to_owned());
    let stream = TokioIo::new(connect(address).await?);
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
    let (sender, connection) = shaken.map_err(|error| ClientError::Answer(error.to_string()))?;
    tokio::spawn(connection);
    let origin = Uri::from_static("http://localhost");
    let mut grpc = Grpc::with_origin(Channel::new(sender), origin);
    let ready = grpc.ready().await;
    ready.map_err(|error| ClientError::Answer(error.to_string()))?;
    let request = Request::new(ListWorkersRequest::default());
    let path = PathAndQuery::from_static(WORKERS);
    let answer = grpc.unary(request, path, ProstCodec::default()).await;
    Ok(answer.map_err(said)?.into_inner())
}
