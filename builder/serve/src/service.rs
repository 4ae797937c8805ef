//! From a request's path to what answers it.

use std::sync::Arc;

use crate::other_api::{Answer, Call};
use crate::server::Server;
use crate::{bridge, control, grpc, history};

/// Answers a request of a frontend that the server runs: it may call its bridge only.
pub(crate) fn answer_frontend(server: Arc<Server>, request: Call) -> Answer {
    let path = request.uri().path().to_owned();
    match path.strip_prefix("/moby.buildkit.v1.frontend.LLBBridge/") {
        Some(method) => bridge::answer(server, method, request),
        None => Box::pin(std::future::ready(grpc::unimplemented(&path))),
    }
}

/// Answers one request.
pub(crate) fn answer(server: Arc<Server>, request: Call) -> Answer {
    let path = request.uri().path().to_owned();
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match parts.unwrap_or_default() {
        ("moby.buildkit.v1.Control", method) => control::answer(server, method, request),
        ("moby.buildkit.v1.frontend.LLBBridge", method) => bridge::answer(server, method, request),
        ("containerd.services.content.v1.Content", method) => {
            history::answer(server, method, request)
        }
        (service, _) => match server.other.clone().filter(|other| other.has(service)) {
            Some(other) => {
                // What it stores has the same limits as what builds store.
                server.collect();
                other.answer(request)
            }
            None => Box::pin(std::future::ready(grpc::unimplemented(&path))),
        },
    }
}
