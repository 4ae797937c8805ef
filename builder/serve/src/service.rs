//! From a request's path to what answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use tonic::body::Body;

use crate::server::Server;
use crate::{bridge, collect, control, grpc, history};

/// A client's call.
pub type Call = http::Request<Incoming>;

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// Another API beside BuildKit's, for the same clients.
pub trait OtherApi: std::fmt::Debug + Send + Sync {
    /// Whether a service is of it, by its full name.
    fn has(&self, service: &str) -> bool;

    /// Answers a call of one of its services.
    fn answer(&self, call: Call) -> Answer;

    /// The server is to end.
    fn stop(&self);
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
                collect::collect(&server);
                other.answer(request)
            }
            None => Box::pin(std::future::ready(grpc::unimplemented(&path))),
        },
    }
}
