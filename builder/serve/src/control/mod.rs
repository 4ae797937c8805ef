//! `moby.buildkit.v1.Control`.

mod check;
mod disk_usage;
mod solve;
pub(crate) mod workers;

use std::sync::Arc;

use hyper::body::Incoming;

pub(crate) use check::entitlements;

use crate::grpc::{self, server_streaming, streaming, unary};
use crate::progress::follow;
use crate::proto::control::{
    BytesMessage, DiskUsageRequest, InfoRequest, ListWorkersRequest, PruneRequest, StatusRequest,
};
use crate::server::Server;
use crate::service;
use crate::session::{Introduction, open};

/// Answers a call.
pub(crate) fn answer(
    server: Arc<Server>,
    method: &str,
    request: http::Request<Incoming>,
) -> service::Answer {
    match method {
        "Solve" => Box::pin(grpc::solve(request, move |request| {
            solve::solve(server, request.into_inner())
        })),
        "Status" => {
            let status = move |request: tonic::Request<StatusRequest>| {
                let log = server.jobs.clone().status(request.into_inner().r#ref);
                async move { Ok(follow(log.await?)) }
            };
            Box::pin(server_streaming(request, status))
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
