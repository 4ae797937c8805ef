//! `moby.buildkit.v1.Control`.

mod check;
mod disk_usage;
mod filter;
mod returned_metadata;
mod solve;
pub(crate) mod workers;

use std::sync::Arc;

use hyper::body::Incoming;

use crate::grpc::{self, Messages, dated, server_streaming, streaming, unary};
use crate::history::{listen, update};
use crate::other_api::Answer;
use crate::progress::{decode, follow};
use crate::proto::control::{
    BuildHistoryRequest, BytesMessage, DiskUsageRequest, InfoRequest, ListWorkersRequest,
    PruneRequest, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
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
            let status = move |request: tonic::Request<StatusRequest>| {
                status(server, request.into_inner().r#ref)
            };
            Box::pin(dated(server_streaming(request, status)))
        }
        "Session" => {
            let session = move |request: tonic::Request<tonic::Streaming<BytesMessage>>| {
                let introduction = Introduction::of(request.metadata());
                let bytes = request.into_inner();
                async move { open(&server.sessions, introduction?, bytes).await }
            };
            Box::pin(streaming(request, session))
        }
        "ListWorkers" => {
            let list = move |_: tonic::Request<ListWorkersRequest>| async move {
                Ok(workers::list(&server))
            };
            Box::pin(unary(request, list))
        }
        "Info" => Box::pin(unary(request, |_: tonic::Request<InfoRequest>| async {
            Ok(workers::info())
        })),
        "DiskUsage" => {
            let usage = move |request: tonic::Request<DiskUsageRequest>| {
                disk_usage::disk_usage(server, request.into_inner())
            };
            Box::pin(unary(request, usage))
        }
        "ListenBuildHistory" => {
            let listen = move |request: tonic::Request<BuildHistoryRequest>| {
                listen(server, request.into_inner())
            };
            Box::pin(dated(server_streaming(request, listen)))
        }
        "UpdateBuildHistory" => {
            let update = move |request: tonic::Request<UpdateBuildHistoryRequest>| {
                update(server, request.into_inner())
            };
            Box::pin(unary(request, update))
        }
        "Prune" => {
            let prune = move |request: tonic::Request<PruneRequest>| {
                disk_usage::prune(server, request.into_inner())
            };
            Box::pin(server_streaming(request, prune))
        }
        _ => Box::pin(std::future::ready(grpc::unimplemented(
            request.uri().path(),
        ))),
    }
}

/// The messages of a build: one that is running, that the history has, or that is about to begin.
async fn status(
    server: Arc<Server>,
    reference: String,
) -> Result<Messages<StatusResponse>, tonic::Status> {
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
