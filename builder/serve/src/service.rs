//! From a request's path to what answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use tonic::body::Body;

use crate::server::Server;
use crate::{bridge, control, grpc, history};

/// An answer on its way.
pub(crate) type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// Answers one request.
pub(crate) fn answer(server: Arc<Server>, request: http::Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match parts.unwrap_or_default() {
        ("moby.buildkit.v1.Control", method) => control::answer(server, method, request),
        ("moby.buildkit.v1.frontend.LLBBridge", method) => bridge::answer(server, method, request),
        ("containerd.services.content.v1.Content", method) => {
            history::answer(server, method, request)
        }
        _ => Box::pin(std::future::ready(grpc::unimplemented(&path))),
    }
}
