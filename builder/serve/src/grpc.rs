//! gRPC calls as functions, on the server's side.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use hyper::body::Incoming;
use prost::Message;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::proto::{Restrictions, SolveRequest};

/// Messages on a client's own connection are no larger: what BuildKit's clients and server allow.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// A response's messages.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a channel brings, as a stream.
pub(crate) fn messages<T: Send + 'static>(from: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    futures_util::stream::unfold(from, |mut from| async {
        let next = from.recv().await?;
        Some((next, from))
    })
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// A function as the service that tonic calls.
struct Call<F>(Option<F>);

impl<F, M, T, W> tower_service::Service<Request<M>> for Call<F>
where
    F: FnOnce(Request<M>) -> W,
    W: Future<Output = Result<T, Status>> + Send + 'static,
    T: Send + 'static,
{
    type Response = Response<T>;
    type Error = Status;
    type Future = Answer<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<M>) -> Self::Future {
        let Some(function) = self.0.take() else {
            return Box::pin(async { Err(Status::internal("a call is answered once")) });
        };
        let work = function(request);
        Box::pin(async { Ok(Response::new(work.await?)) })
    }
}

/// A function of a message as one of a call, of which it wants to know nothing else.
pub(crate) fn message<M, T>(function: impl FnOnce(M) -> T) -> impl FnOnce(Request<M>) -> T {
    |request| function(request.into_inner())
}

fn grpc<C: Codec>(codec: C) -> Grpc<C> {
    Grpc::new(codec)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// One message, one answer.
pub(crate) async fn unary<M, T, F, W>(
    request: http::Request<Incoming>,
    function: F,
) -> http::Response<Body>
where
    M: Message + Default + Send + 'static,
    T: Message + Send + 'static,
    F: FnOnce(Request<M>) -> W,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    let codec = ProstCodec::<T, M>::default();
    grpc(codec).unary(Call(Some(function)), request).await
}

/// One message, several answers.
pub(crate) async fn server_streaming<M, T, F, W>(
    request: http::Request<Incoming>,
    function: F,
) -> http::Response<Body>
where
    M: Message + Default + Send + 'static,
    T: Message + Send + 'static,
    F: FnOnce(Request<M>) -> W,
    W: Future<Output = Result<Messages<T>, Status>> + Send + 'static,
{
    let codec = ProstCodec::<T, M>::default();
    let call = Call(Some(function));
    grpc(codec).server_streaming(call, request).await
}

/// A response that says when it was made: clients tell how long builds took by the server's clock.
pub(crate) async fn dated(
    response: impl Future<Output = http::Response<Body>>,
) -> http::Response<Body> {
    let mut response = response.await;
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    if let Some(now) = now.ok().and_then(|now| now.parse().ok()) {
        response
            .headers_mut()
            .insert("buildkit-current-timestamp", now);
    }
    response
}

/// Messages both ways.
pub(crate) async fn streaming<M, T, F, W>(
    request: http::Request<Incoming>,
    function: F,
) -> http::Response<Body>
where
    M: Message + Default + Send + 'static,
    T: Message + Send + 'static,
    F: FnOnce(Request<Streaming<M>>) -> W + Send,
    W: Future<Output = Result<Messages<T>, Status>> + Send + 'static,
{
    let codec = ProstCodec::<T, M>::default();
    grpc(codec).streaming(Call(Some(function)), request).await
}

/// `Control.Solve`, whose message is read with the fields that are newer than its type.
pub(crate) async fn solve<T, F, W>(
    request: http::Request<Incoming>,
    function: F,
) -> http::Response<Body>
where
    T: Message + Send + 'static,
    F: FnOnce(Request<SolveRequest>) -> W,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    let codec = SolveCodec(ProstCodec::<T, Restrictions>::default());
    grpc(codec).unary(Call(Some(function)), request).await
}

/// What answers a call that there is no function for.
pub(crate) fn unimplemented(path: &str) -> http::Response<Body> {
    Status::unimplemented(format!("unknown method {path}")).into_http()
}

struct SolveCodec<T>(ProstCodec<T, Restrictions>);

impl<T: Message + Send + 'static> Codec for SolveCodec<T> {
    type Encode = T;
    type Decode = SolveRequest;
    type Encoder = <ProstCodec<T, Restrictions> as Codec>::Encoder;
    type Decoder = SolveDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> SolveDecoder {
        SolveDecoder
    }
}

struct SolveDecoder;

impl Decoder for SolveDecoder {
    type Item = SolveRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SolveRequest>, Status> {
        use bytes::Buf as _;
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let wrong = |error: prost::DecodeError| Status::internal(error.to_string());
        Ok(Some(SolveRequest {
            known: Message::decode(bytes.clone()).map_err(wrong)?,
            newer: Message::decode(bytes).map_err(wrong)?,
        }))
    }
}
