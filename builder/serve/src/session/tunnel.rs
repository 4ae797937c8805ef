//! `Control.Session`: two streams of bytes that carry a second HTTP/2 connection, whose server is the
//! client.

use std::sync::Arc;

use futures_util::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Channel, Introduction, Session, Sessions};
use crate::grpc::{Messages, messages};
use crate::proto::control::BytesMessage;

/// What may be on its way between the two connections.
const BUFFER: usize = 1 << 20;
/// Bytes in one message.
const PIECE: usize = 32 << 10;
/// What a client may send of one stream, and of all, before it is read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Metadata may name thousands of patterns; Go's own limit.
const MAX_HEADERS: u32 = 1 << 20;

/// Opens a session over the streams; what is returned is the server's. It ends when the client's does.
pub(crate) async fn open(
    sessions: &Arc<Sessions>,
    introduction: Introduction,
    from_client: Streaming<BytesMessage>,
) -> Result<Messages<BytesMessage>, Status> {
    let (own, theirs) = tokio::io::duplex(BUFFER);
    let (reader, writer) = tokio::io::split(theirs);
    let (to_client, outgoing) = mpsc::channel(16);
    let ended = CancellationToken::new();
    tokio::spawn(bring(from_client, writer, ended.clone()));
    tokio::spawn(take(reader, to_client, ended.clone()));
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS);
    let shaken = builder.handshake(TokioIo::new(own)).await;
    let (sender, connection) =
        shaken.map_err(|error| Status::invalid_argument(format!("garbled session: {error}")))?;
    let registered = sessions.register(Session {
        id: introduction.id,
        shared_key: introduction.shared_key,
        methods: introduction.methods,
        channel: Channel::new(sender),
        ended: ended.clone(),
    })?;
    tokio::spawn(async move {
        let _registered = registered;
        tokio::select! {
            // What goes wrong in the connection is the end of the session.
            _ = connection => {}
            () = ended.cancelled() => {}
        }
    });
    Ok(Box::pin(messages(outgoing).map(Ok)))
}

/// Brings the client's bytes to the connection, until the client ends.
async fn bring(
    mut from: Streaming<BytesMessage>,
    mut to: WriteHalf<DuplexStream>,
    ended: CancellationToken,
) {
    let _end = ended.clone().drop_guard();
    let work = async {
        while let Ok(Some(message)) = from.message().await {
            if to.write_all(&message.data).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = ended.cancelled() => {}
    }
}

/// Takes the connection's bytes to the client, until the session ends.
async fn take(
    mut from: ReadHalf<DuplexStream>,
    to: mpsc::Sender<BytesMessage>,
    ended: CancellationToken,
) {
    let _end = ended.clone().drop_guard();
    let work = async {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let data = piece[..count].to_vec();
            if to.send(BytesMessage { data }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = ended.cancelled() => {}
    }
}
