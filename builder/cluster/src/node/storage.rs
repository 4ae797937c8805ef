//! The content-addressable storage of a node, and its byte streams.

use std::path::PathBuf;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as bytes;
use bazel_remote_apis::google::rpc;
use bytes::byte_stream_server::ByteStream;
use futures_util::stream;
use reapi::content_addressable_storage_server::ContentAddressableStorage;
use tonic::{Code, Request, Response, Status, Streaming};

use super::blobs::{Asked, missing, part};
use super::{
    Answered, CHUNK, ClusterNode, MAX_BATCH, MAX_BATCH_COUNT, Messages, Node, blocking, check,
};

/// A client that sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(120);

#[tonic::async_trait]
impl ContentAddressableStorage for ClusterNode {
    type GetTreeStream = Messages<reapi::GetTreeResponse>;
    type GetChunkMappingStream = Messages<reapi::GetChunkMappingResponse>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Answered<reapi::FindMissingBlobsResponse> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let node = self.0.clone();
        let missing = blocking(move || node.missing(request.blob_digests)).await?;
        Ok(Response::new(reapi::FindMissingBlobsResponse {
            missing_blob_digests: missing,
        }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Answered<reapi::BatchUpdateBlobsResponse> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let node = self.0.clone();
        let responses = blocking(move || Ok(node.update(request.requests))).await?;
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Answered<reapi::BatchReadBlobsResponse> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let node = self.0.clone();
        let responses = blocking(move || node.read_batch(request.digests)).await?;
        Ok(Response::new(reapi::BatchReadBlobsResponse { responses }))
    }

    async fn get_tree(
        &self,
        _: Request<reapi::GetTreeRequest>,
    ) -> Answered<Messages<reapi::GetTreeResponse>> {
        Err(not_here())
    }

    async fn split_blob(
        &self,
        _: Request<reapi::SplitBlobRequest>,
    ) -> Answered<reapi::SplitBlobResponse> {
        Err(not_here())
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<reapi::GetChunkMappingRequest>,
    ) -> Answered<Messages<reapi::GetChunkMappingResponse>> {
        Err(not_here())
    }

    async fn splice_blob(
        &self,
        _: Request<reapi::SpliceBlobRequest>,
    ) -> Answered<reapi::SpliceBlobResponse> {
        Err(not_here())
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Answered<reapi::RegisterChunkMappingResponse> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("a node of kiln has no such call")
}

impl Node {
    fn missing(&self, digests: Vec<reapi::Digest>) -> Result<Vec<reapi::Digest>, Status> {
        let mut missing = Vec::new();
        for digest in digests {
            let asked = Asked::read(&digest)?;
            if !self.blobs.has(asked)? {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    fn update(
        &self,
        requests: Vec<reapi::batch_update_blobs_request::Request>,
    ) -> Vec<reapi::batch_update_blobs_response::Response> {
        let requests = requests.into_iter();
        let responses = requests.map(|one| {
            let done = match one.compressor {
                0 => Asked::of(one.digest.as_ref())
                    .and_then(|asked| self.blobs.put(asked, &one.data)),
                _ => Err(Status::invalid_argument("blobs are sent as they are")),
            };
            reapi::batch_update_blobs_response::Response {
                digest: one.digest,
                status: Some(status_of(done.as_ref().err())),
            }
        });
        responses.collect()
    }

    fn read_batch(
        &self,
        digests: Vec<reapi::Digest>,
    ) -> Result<Vec<reapi::batch_read_blobs_response::Response>, Status> {
        if digests.len() > MAX_BATCH_COUNT {
            let text = format!("{MAX_BATCH_COUNT} blobs are the most for a batch");
            return Err(Status::invalid_argument(text));
        }
        let mut left = MAX_BATCH as u64;
        let mut responses = Vec::new();
        for digest in digests {
            let asked = Asked::read(&digest)?;
            left = left.checked_sub(asked.size).ok_or_else(|| {
                Status::invalid_argument("more is asked for than a message holds")
            })?;
            let read = self.blobs.read(asked, MAX_BATCH as u64);
            responses.push(reapi::batch_read_blobs_response::Response {
                digest: Some(digest),
                status: Some(status_of(read.as_ref().err())),
                data: read.unwrap_or_default(),
                ..Default::default()
            });
        }
        Ok(responses)
    }
}

fn status_of(error: Option<&Status>) -> rpc::Status {
    let code = error.map_or(Code::Ok, Status::code);
    rpc::Status {
        code: code as i32,
        message: error
            .map(|error| error.message().to_owned())
            .unwrap_or_default(),
        details: Vec::new(),
    }
}

/// What a stream is named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    /// `blobs/HASH/SIZE`, to be read.
    Blob(Asked),
    /// `uploads/UUID/blobs/HASH/SIZE`, and perhaps more, to be written.
    Upload(Asked),
    /// `logstreams/NAME`: what an action writes, to be read.
    Log(String),
}

impl Resource {
    fn read(name: &str) -> Result<Self, Status> {
        let unknown = || Status::invalid_argument(format!("'{name}' is no name of a blob"));
        let asked = |hash: &str, size: &str| {
            Asked::read(&reapi::Digest {
                hash: hash.to_owned(),
                size_bytes: size.parse().map_err(|_| unknown())?,
            })
        };
        let parts: Vec<&str> = name.split('/').collect();
        match parts[..] {
            ["blobs", hash, size] => asked(hash, size).map(Self::Blob),
            ["uploads", _, "blobs", hash, size, ..] => asked(hash, size).map(Self::Upload),
            ["logstreams", name] => Ok(Self::Log(name.to_owned())),
            _ => Err(unknown()),
        }
    }
}

#[tonic::async_trait]
impl ByteStream for ClusterNode {
    type ReadStream = Messages<bytes::ReadResponse>;

    async fn read(&self, request: Request<bytes::ReadRequest>) -> Answered<Self::ReadStream> {
        let request = request.into_inner();
        let negative = |_| Status::out_of_range("offsets and limits are not negative");
        let offset = u64::try_from(request.read_offset).map_err(negative)?;
        let limit = u64::try_from(request.read_limit).map_err(negative)?;
        match Resource::read(&request.resource_name)? {
            Resource::Blob(asked) => {
                let node = self.0.clone();
                let found = blocking(move || node.blobs.find(asked)).await?;
                let path = match (found, asked.size) {
                    (Some(found), _) => found.path,
                    // Nothing of it is read.
                    (None, 0) => PathBuf::new(),
                    (None, _) => return Err(missing(asked)),
                };
                if offset > asked.size {
                    return Err(Status::out_of_range("the blob is shorter"));
                }
                let end = match limit {
                    0 => asked.size,
                    limit => asked.size.min(offset.saturating_add(limit)),
                };
                Ok(Response::new(chunks(path, offset, end)))
            }
            Resource::Log(name) => {
                let operation = self.0.operations.find(&name)?;
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(Response::new(operation.log(from)))
            }
            Resource::Upload(_) => Err(Status::invalid_argument("an upload can't be read")),
        }
    }

    async fn write(
        &self,
        request: Request<Streaming<bytes::WriteRequest>>,
    ) -> Answered<bytes::WriteResponse> {
        let mut messages = request.into_inner();
        let first = next(&mut messages).await?;
        let first = first.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
        let Resource::Upload(asked) = Resource::read(&first.resource_name)? else {
            return Err(Status::invalid_argument("only uploads can be written"));
        };
        let size = asked.message().size_bytes;
        let done = Response::new(bytes::WriteResponse {
            committed_size: size,
        });
        let node = self.0.clone();
        let is_there = blocking(move || Ok(node.blobs.find(asked)?.is_some())).await?;
        if is_there {
            return Ok(done);
        }
        self.0.clone().receive(asked, first, messages).await?;
        Ok(done)
    }

    async fn query_write_status(
        &self,
        request: Request<bytes::QueryWriteStatusRequest>,
    ) -> Answered<bytes::QueryWriteStatusResponse> {
        let Resource::Upload(asked) = Resource::read(&request.into_inner().resource_name)? else {
            return Err(Status::invalid_argument("only uploads have a status"));
        };
        let node = self.0.clone();
        let complete = blocking(move || Ok(node.blobs.find(asked)?.is_some())).await?;
        // What was sent of one that broke isn't kept.
        let size = if complete {
            asked.message().size_bytes
        } else {
            0
        };
        Ok(Response::new(bytes::QueryWriteStatusResponse {
            committed_size: size,
            complete,
        }))
    }
}

impl Node {
    /// Takes a blob's messages. What is longer than it was said to be is refused as soon as it is.
    async fn receive(
        self: std::sync::Arc<Self>,
        asked: Asked,
        first: bytes::WriteRequest,
        mut messages: Streaming<bytes::WriteRequest>,
    ) -> Result<(), Status> {
        let node = self.clone();
        let mut incoming = blocking(move || node.blobs.begin()).await?;
        let (mut at, mut message) = (0, Some(first));
        while let Some(one) = message {
            if u64::try_from(one.write_offset) != Ok(at) {
                let text = format!("a write at {} where {at} bytes are there", one.write_offset);
                return Err(Status::invalid_argument(text));
            }
            at += one.data.len() as u64;
            if at > asked.size {
                return Err(Status::invalid_argument(
                    "a blob is longer than its digest says",
                ));
            }
            let is_last = one.finish_write;
            incoming = blocking(move || {
                incoming.add(&one.data)?;
                Ok(incoming)
            })
            .await?;
            message = match is_last {
                true => None,
                false => next(&mut messages).await?,
            };
        }
        if at < asked.size {
            return Err(Status::invalid_argument(
                "a blob is shorter than its digest says",
            ));
        }
        blocking(move || incoming.end(asked)).await
    }
}

async fn next(
    messages: &mut Streaming<bytes::WriteRequest>,
) -> Result<Option<bytes::WriteRequest>, Status> {
    let next = tokio::time::timeout(PATIENCE, messages.message()).await;
    next.map_err(|_| Status::deadline_exceeded("nothing was sent for too long"))?
}

/// The bytes of a file from one offset to another.
fn chunks(path: PathBuf, from: u64, end: u64) -> Messages<bytes::ReadResponse> {
    Box::pin(stream::try_unfold(
        (path, from),
        move |(path, at)| async move {
            if at >= end {
                return Ok(None);
            }
            let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let file = path.clone();
            let data = blocking(move || part(&file, at, most)).await?;
            if data.is_empty() {
                return Err(Status::data_loss("a blob is shorter than it was"));
            }
            let at = at + data.len() as u64;
            Ok(Some((bytes::ReadResponse { data }, (path, at))))
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_as_the_api_says() {
        let hash = "ab".repeat(32);
        let asked = Asked::read(&reapi::Digest {
            hash: hash.clone(),
            size_bytes: 7,
        });
        let asked = asked.unwrap();
        let read = |name: &str| Resource::read(name).ok();
        assert_eq!(
            read(&format!("blobs/{hash}/7")),
            Some(Resource::Blob(asked))
        );
        let upload = Some(Resource::Upload(asked));
        assert_eq!(read(&format!("uploads/u/blobs/{hash}/7")), upload);
        assert_eq!(read(&format!("uploads/u/blobs/{hash}/7/a/b")), upload);
        assert_eq!(read("logstreams/1"), Some(Resource::Log("1".to_owned())));
        for wrong in [
            String::new(),
            "blobs".to_owned(),
            format!("blobs/{hash}/-7"),
            format!("blobs/{hash}/x"),
            format!("main/blobs/{hash}/7"),
            format!("compressed-blobs/zstd/{hash}/7"),
            format!("blobs/../{hash}/7"),
            "logstreams/a/b".to_owned(),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
