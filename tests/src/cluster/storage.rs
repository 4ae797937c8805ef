//! Blobs in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as stream;
use futures_util::{Stream, stream as streams};
use kiln_graph::BlobDigest;
use reapi::content_addressable_storage_server::ContentAddressableStorage;
use stream::byte_stream_server::ByteStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Fault, Shared, State};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl State {
    /// Stores bytes under their digest.
    pub(super) fn put(&self, bytes: Vec<u8>) -> reapi::Digest {
        let hash = BlobDigest::of(&bytes).hex();
        let size_bytes = i64::try_from(bytes.len()).unwrap();
        _ = self.blobs.lock().unwrap().insert(hash.clone(), bytes);
        reapi::Digest { hash, size_bytes }
    }

    /// The bytes of a blob as clients get them.
    fn read(&self, hash: &str) -> Option<Vec<u8>> {
        let mut bytes = self.blobs.lock().unwrap().get(hash)?.clone();
        let is_output = self.outputs.lock().unwrap().iter().any(|out| out == hash);
        match self.fault {
            Fault::Lies if is_output => {
                let last = bytes.last_mut()?;
                *last ^= 1;
                Some(bytes)
            }
            Fault::LosesOutputs if is_output => None,
            _ => Some(bytes),
        }
    }

    fn take(&self, digest: &reapi::Digest, bytes: Vec<u8>) -> Result<(), Status> {
        _ = self.uploaded.fetch_add(bytes.len(), Ordering::SeqCst);
        match self.put(bytes) == *digest {
            true => Ok(()),
            false => Err(Status::invalid_argument("another digest")),
        }
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for Shared {
    type GetTreeStream = Messages<reapi::GetTreeResponse>;
    type GetChunkMappingStream = Messages<reapi::GetChunkMappingResponse>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Answer<reapi::FindMissingBlobsResponse> {
        let mut missing = request.into_inner().blob_digests;
        let blobs = self.0.blobs.lock().unwrap();
        missing.retain(|digest| !blobs.contains_key(&digest.hash));
        Ok(Response::new(reapi::FindMissingBlobsResponse {
            missing_blob_digests: missing,
        }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Answer<reapi::BatchUpdateBlobsResponse> {
        let mut responses = Vec::new();
        for one in request.into_inner().requests {
            let digest = one.digest.unwrap_or_default();
            self.0.take(&digest, one.data)?;
            responses.push(reapi::batch_update_blobs_response::Response {
                digest: Some(digest),
                status: None,
            });
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        _: Request<reapi::BatchReadBlobsRequest>,
    ) -> Answer<reapi::BatchReadBlobsResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_tree(
        &self,
        _: Request<reapi::GetTreeRequest>,
    ) -> Answer<Messages<reapi::GetTreeResponse>> {
        Err(Status::unimplemented("not here"))
    }

    async fn split_blob(
        &self,
        _: Request<reapi::SplitBlobRequest>,
    ) -> Answer<reapi::SplitBlobResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<reapi::GetChunkMappingRequest>,
    ) -> Answer<Messages<reapi::GetChunkMappingResponse>> {
        Err(Status::unimplemented("not here"))
    }

    async fn splice_blob(
        &self,
        _: Request<reapi::SpliceBlobRequest>,
    ) -> Answer<reapi::SpliceBlobResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Answer<reapi::RegisterChunkMappingResponse> {
        Err(Status::unimplemented("not here"))
    }
}

/// The name that the standard output of the last action is streamed under.
pub(super) const LOG: &str = "logstreams/1";

/// What an action writes, as it writes it.
fn log(state: Arc<State>) -> Messages<stream::ReadResponse> {
    Box::pin(streams::unfold((state, 0), |(state, at)| async move {
        loop {
            let (more, is_whole) = {
                let log = state.log.lock().unwrap();
                (log.bytes[at..].to_vec(), log.is_whole)
            };
            if !more.is_empty() {
                let at = at + more.len();
                return Some((Ok(stream::ReadResponse { data: more }), (state, at)));
            }
            if is_whole {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }))
}

/// `…/HASH/SIZE`, of uploads and downloads.
fn digest_of(resource: &str) -> Result<reapi::Digest, Status> {
    let mut parts = resource.rsplit('/');
    let size = parts.next().and_then(|size| size.parse().ok());
    match (parts.next(), size) {
        (Some(hash), Some(size_bytes)) => Ok(reapi::Digest {
            hash: hash.to_owned(),
            size_bytes,
        }),
        _ => Err(Status::invalid_argument("no such name")),
    }
}

#[tonic::async_trait]
impl ByteStream for Shared {
    type ReadStream = Messages<stream::ReadResponse>;

    async fn read(&self, request: Request<stream::ReadRequest>) -> Answer<Self::ReadStream> {
        let request = request.into_inner();
        if request.resource_name == LOG {
            return Ok(Response::new(log(self.0.clone())));
        }
        let digest = digest_of(&request.resource_name)?;
        let bytes = self.0.read(&digest.hash);
        let bytes = bytes.ok_or_else(|| Status::not_found("no such blob"))?;
        _ = self.0.downloaded.fetch_add(bytes.len(), Ordering::SeqCst);
        let offset = usize::try_from(request.read_offset).unwrap_or(0);
        let message = |data: &[u8]| stream::ReadResponse {
            data: data.to_vec(),
        };
        let is_output = self.0.outputs.lock().unwrap().contains(&digest.hash);
        match self.0.fault {
            Fault::SaysNothing if is_output => {
                let nothing = streams::repeat_with(move || Ok(message(&[])));
                return Ok(Response::new(Box::pin(nothing)));
            }
            Fault::Drips if is_output => {
                let byte = Ok(message(&bytes[offset..][..1]));
                let end = Err(Status::unavailable("tired"));
                return Ok(Response::new(Box::pin(streams::iter([byte, end]))));
            }
            _ => {}
        }
        let chunks: Vec<_> = bytes[offset.min(bytes.len())..]
            .chunks(1 << 20)
            .map(|data| Ok(message(data)))
            .collect();
        Ok(Response::new(Box::pin(streams::iter(chunks))))
    }

    async fn write(
        &self,
        request: Request<Streaming<stream::WriteRequest>>,
    ) -> Answer<stream::WriteResponse> {
        let mut messages = request.into_inner();
        let (mut name, mut bytes) = (String::new(), Vec::new());
        while let Some(message) = messages.message().await? {
            if name.is_empty() {
                name = message.resource_name;
            }
            bytes.extend(message.data);
        }
        let digest = digest_of(&name)?;
        let committed_size = digest.size_bytes;
        self.0.take(&digest, bytes)?;
        Ok(Response::new(stream::WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<stream::QueryWriteStatusRequest>,
    ) -> Answer<stream::QueryWriteStatusResponse> {
        Err(Status::unimplemented("not here"))
    }
}
