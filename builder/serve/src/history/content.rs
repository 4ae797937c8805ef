//! `containerd.services.content.v1.Content`, to be read: blobs that records name.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_graph::BlobDigest;
use kiln_tree::host;
use tonic::Status;

use crate::grpc::{self, Messages, message, server_streaming, unary};
use crate::other_api::Answer;
use crate::proto::content::{
    Info, InfoRequest, InfoResponse, ListContentRequest, ListContentResponse, ReadContentRequest,
    ReadContentResponse,
};
use crate::proto::timestamp;
use crate::server::Server;

/// Bytes in one message.
const PIECE: u64 = 1 << 20;

/// Answers a call.
pub(crate) fn answer(
    server: Arc<Server>,
    method: &str,
    request: http::Request<hyper::body::Incoming>,
) -> Answer {
    match method {
        "Info" => Box::pin(unary(request, message(move |asked| info(server, asked)))),
        "List" => {
            let list = message(move |asked| list(server, asked));
            Box::pin(server_streaming(request, list))
        }
        "Read" => {
            let read = message(move |asked| read(server, asked));
            Box::pin(server_streaming(request, read))
        }
        _ => Box::pin(std::future::ready(grpc::unimplemented(
            request.uri().path(),
        ))),
    }
}

async fn find(server: Arc<Server>, digest: &str) -> Result<PathBuf, Status> {
    let wanted: Result<BlobDigest, _> = digest.parse();
    let wanted = wanted.map_err(|error| Status::invalid_argument(format!("{digest}: {error}")))?;
    let found = tokio::task::spawn_blocking(move || server.history.blob(&wanted)).await;
    let found = found.ok().flatten();
    found.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
}

fn broken(error: &std::io::Error) -> Status {
    Status::unknown(format!("the history: {error}"))
}

async fn info(server: Arc<Server>, request: InfoRequest) -> Result<InfoResponse, Status> {
    let file = find(server, &request.digest).await?;
    let info = about(request.digest, &file).map_err(|error| broken(&error))?;
    Ok(InfoResponse { info: Some(info) })
}

/// What is known of a blob.
fn about(digest: String, file: &Path) -> std::io::Result<Info> {
    let about = host::metadata(file)?;
    let time = about.modified().ok().map(timestamp);
    Ok(Info {
        digest,
        size: i64::try_from(about.len()).unwrap_or(i64::MAX),
        created_at: time,
        updated_at: time,
    })
}

/// All blobs that records name.
async fn list(
    server: Arc<Server>,
    request: ListContentRequest,
) -> Result<Messages<ListContentResponse>, Status> {
    if request.filters.iter().any(|filter| !filter.is_empty()) {
        let text = "filters of contents are not supported by kiln";
        return Err(Status::unimplemented(text));
    }
    let listed = tokio::task::spawn_blocking(move || {
        let blobs = server.history.blobs().into_iter();
        // One may go while it is looked at.
        let known = blobs.filter_map(|(digest, file)| about(digest.to_string(), &file).ok());
        known.collect::<Vec<_>>()
    });
    let info = listed
        .await
        .map_err(|_| Status::internal("listing ended early"))?;
    let answer = (!info.is_empty()).then_some(Ok(ListContentResponse { info }));
    Ok(Box::pin(futures_util::stream::iter(answer)))
}

async fn read(
    server: Arc<Server>,
    request: ReadContentRequest,
) -> Result<Messages<ReadContentResponse>, Status> {
    let file = find(server, &request.digest).await?;
    let mut file = host::open(file).map_err(|error| broken(&error))?;
    let start = u64::try_from(request.offset)
        .map_err(|_| Status::out_of_range("an offset before the beginning"))?;
    // Without a size it is all that follows.
    let size = u64::try_from(request.size).unwrap_or(0);
    let rest = if size == 0 { u64::MAX } else { size };
    file.seek(SeekFrom::Start(start))
        .map_err(|error| broken(&error))?;
    let pieces = futures_util::stream::try_unfold(
        (file, start, rest),
        |(mut file, offset, rest)| async move {
            let mut data = Vec::new();
            let wanted = rest.min(PIECE);
            let count = file.by_ref().take(wanted).read_to_end(&mut data);
            let count = count.map_err(|error| broken(&error))? as u64;
            let piece = ReadContentResponse {
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                data,
            };
            Ok((count > 0).then_some((piece, (file, offset + count, rest - count))))
        },
    );
    Ok(Box::pin(pieces))
}
