//! Calls in the client: gRPC on the HTTP/2 connection inside of a session.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use http::uri::{PathAndQuery, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Session;

/// A client's server takes messages of 4 MiB and no larger; what it sends is held to the same.
const MAX_MESSAGE: usize = 4 << 20;

/// The connection inside of a session. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Channel(SendRequest<Body>);

impl Channel {
    pub(crate) fn new(sender: SendRequest<Body>) -> Self {
        Self(sender)
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Session {
    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let origin = Uri::from_static("http://localhost");
        let mut grpc = Grpc::with_origin(self.channel.clone(), origin)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let ready = grpc.ready().await;
        ready.map_err(|_| Status::unavailable("the client's session ended"))?;
        Ok(grpc)
    }

    /// One message, one answer.
    pub(crate) async fn unary<M, T>(&self, path: &'static str, message: M) -> Result<T, Status>
    where
        M: Message + Send + Sync + 'static,
        T: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::default());
        let answer = grpc.unary(Request::new(message), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Messages both ways.
    pub(crate) async fn streaming<M, T>(
        &self,
        path: &'static str,
        metadata: MetadataMap,
        messages: impl Stream<Item = M> + Send + 'static,
    ) -> Result<Streaming<T>, Status>
    where
        M: Message + Send + Sync + 'static,
        T: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let mut request = Request::new(messages);
        *request.metadata_mut() = metadata;
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::default());
        let answer = grpc.streaming(request, path, codec).await?;
        Ok(answer.into_inner())
    }
}

/// Whether a client's answer means that it doesn't have what it was asked for.
pub(super) fn is_absent(status: &Status) -> bool {
    use tonic::Code::{NotFound, Unimplemented};
    matches!(status.code(), NotFound | Unimplemented)
}
