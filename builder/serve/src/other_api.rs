//! What else may be answered beside BuildKit's API, for the same clients.

use std::future::Future;
use std::pin::Pin;

use hyper::body::Incoming;
use tonic::body::Body;

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
