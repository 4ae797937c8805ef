//! `moby.buildkit.v1.Control`.

mod check;
mod disk_usage;
mod filter;
mod returned_metadata;
mod solve;
pub(crate) mod workers;

use std::sync::Arc;

use hyper::body::Incoming;
use tonic::{Request, Status, Streaming};

use self::disk_usage::{disk_usage, prune};
use self::workers::list;
use crate::grpc::{self, Messages, dated, message, server_streaming, streaming, unary};
use crate::history::{listen, update};
use crate::other_api::Answer;
use crate::progress::{decode, follow};
use crate::proto::control::{
    BytesMessage, InfoRequest, ListWorkersRequest, StatusRequest, StatusResponse,
};
use crate::server::Server;
use crate::session::{Introduction, open};

/// Answers a call.
pub(crate) fn answer(
    server: Arc<Server>,
    method: &str,
    request: http::Request<Incoming>,
) -> Answer {
    match method {
        "Solve" => Box::pin(grpc::solve(request, move |request| {
            solve::solve(server, request)
        })),
        "Status" => {
            let status = message(move |asked: StatusRequest| status(server, asked.r#ref));
            Box::pin(dated(server_streaming(request, status)))
        }
        "Session" => Box::pin(streaming(request, move |request| session(server, request))),
        "ListWorkers" => {
            let list = message(move |_: ListWorkersRequest| async move { Ok(list(&server)) });
            Box::pin(unary(request, list))
        }
        "Info" => {
            let info = message(|_: InfoRequest| async { Ok(workers::info()) });
            Box::pin(unary(request, info))
        }
        "DiskUsage" => {
            let usage = message(move |asked| disk_usage(server, asked));
            Box::pin(unary(request, usage))
        }
        "ListenBuildHistory" => {
            let listen = message(move |asked| listen(server, asked));
            Box::pin(dated(server_streaming(request, listen)))
        }
        "UpdateBuildHistory" => {
            let update = message(move |asked| update(server, asked));
            Box::pin(unary(request, update))
        }
        "Prune" => {
            let prune = message(move |asked| prune(server, asked));
            Box::pin(server_streaming(request, prune))
        }
        _ => Box::pin(std::future::ready(grpc::unimplemented(
            request.uri().path(),
        ))),
    }
}

/// A client's own connection, for what is called in it.
async fn session(
    server: Arc<Server>,
    request: Request<Streaming<BytesMessage>>,
) -> Result<Messages<BytesMessage>, Status> {
    let introduction = Introduction::of(request.metadata())?;
    open(&server.sessions, introduction, request.into_inner()).await
}

/// The messages of a build: one that is running, that the history has, or that is about to begin.
async fn status(
    server: Arc<Server>,
    reference: String,
) -> Result<Messages<StatusResponse>, Status> {
    if let Some(log) = server.jobs.known_status(&reference) {
        return Ok(follow(log));
    }
    let (reading, name) = (server.clone(), reference.clone());
    let kept = tokio::task::spawn_blocking(move || {
        let history = &reading.history;
        let record = history.record(&name)?;
        history.blob_of(&name, &record.logs?)
    });
    if let Some(bytes) = kept.await.ok().flatten() {
        let messages = decode(&bytes).into_iter().map(Ok);
        return Ok(Box::pin(futures_util::stream::iter(messages)));
    }
    Ok(follow(server.jobs.clone().status(reference).await?))
}
