//! The content-addressable storage: what is missing, sent and read.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::bytestream::{ReadRequest, WriteRequest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_tree::host;
use reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use reapi::{BatchUpdateBlobsRequest, Digest, FindMissingBlobsRequest};
use tonic::Code;

use crate::capabilities::Capabilities;
use crate::channel::Service;
use crate::retry::{PATIENCE, patiently, repeated, retried, while_moving};
use crate::{ClusterError, ReapiSettings};

/// What is at most this long goes with others in one message, in bytes.
const SMALL: u64 = 1 << 20;
/// What one message adds to a blob's bytes, in bytes and generously.
const FRAME: u64 = 256;
/// In bytes, of what is sent as a stream.
const CHUNK: usize = 1 << 20;
/// How many blobs are sent at once.
const STREAMS: usize = 4;
/// How many digests are asked for at once: some 75 bytes each.
const DIGESTS: usize = 10_000;
/// How often reading a blob begins again where it broke, before so many bytes more are there.
const RESUMES: u32 = 4;
const PROGRESS: i64 = 64 << 10;
/// How many messages without bytes a stream may have.
pub(crate) const MAX_EMPTY: usize = 1000;

/// A blob to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

/// A blob by its digest.
#[derive(Clone, Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) digest: Digest,
    pub(crate) content: Content<'a>,
}

/// One instance's storage.
#[derive(Clone)]
pub(crate) struct Storage {
    service: Service,
    instance: String,
    capabilities: Capabilities,
}

impl Storage {
    pub(crate) fn new(
        service: Service,
        settings: &ReapiSettings,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            service,
            instance: settings.instance.clone(),
            capabilities,
        }
    }

    /// Sends what isn't there, and gives its bytes.
    pub(crate) async fn send(&self, uploads: Vec<Upload<'_>>) -> Result<u64, ClusterError> {
        let digests = uploads.iter().map(|upload| upload.digest.clone());
        let missing = self.missing(digests).await?;
        let uploads = uploads.into_iter();
        let uploads = uploads.filter(|upload| missing.contains(&upload.digest.hash));
        self.send_all(uploads.collect(), &Arc::default()).await
    }

    /// Sends what is known to be missing, and gives its bytes; `sent` counts them meanwhile.
    pub(crate) async fn send_all(
        &self,
        uploads: Vec<Upload<'_>>,
        sent: &Arc<AtomicU64>,
    ) -> Result<u64, ClusterError> {
        let mut taken = HashSet::new();
        let (small, large): (Vec<_>, Vec<_>) = uploads
            .into_iter()
            .filter(|upload| taken.insert(upload.digest.hash.clone()))
            .partition(|upload| size(&upload.digest) <= SMALL.min(self.capabilities.max_batch));
        self.check_sizes(&large)?;
        for batch in batches(&small, self.capabilities.max_batch) {
            self.send_batch(batch).await?;
            _ = sent.fetch_add(total(batch), Ordering::Relaxed);
        }
        let streams = stream::iter(&large).map(|upload| self.send_stream(upload, sent));
        let done: Vec<()> = streams.buffer_unordered(STREAMS).try_collect().await?;
        drop(done);
        Ok(total(&small) + total(&large))
    }

    fn check_sizes(&self, uploads: &[Upload<'_>]) -> Result<(), ClusterError> {
        let Some(max) = self.capabilities.max_blob else {
            return Ok(());
        };
        match uploads.iter().map(|upload| size(&upload.digest)).max() {
            Some(size) if size > max => Err(ClusterError::TooLarge { size, max }),
            _ => Ok(()),
        }
    }

    /// The hashes of those that aren't there. The empty blob always is.
    pub(crate) async fn missing(
        &self,
        digests: impl Iterator<Item = Digest>,
    ) -> Result<HashSet<String>, ClusterError> {
        let mut missing = HashSet::new();
        let all: Vec<Digest> = digests.filter(|digest| digest.size_bytes > 0).collect();
        for blob_digests in all.chunks(DIGESTS) {
            let request = FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: blob_digests.to_vec(),
                ..FindMissingBlobsRequest::default()
            };
            let answer = retried(async || {
                let mut client = self.client();
                Ok(client.find_missing_blobs(request.clone()).await?)
            });
            let digests = answer.await?.into_inner().missing_blob_digests;
            missing.extend(digests.into_iter().map(|digest| digest.hash));
        }
        Ok(missing)
    }

    async fn send_batch(&self, batch: &[Upload<'_>]) -> Result<(), ClusterError> {
        let mut requests = Vec::new();
        for upload in batch {
            requests.push(reapi::batch_update_blobs_request::Request {
                digest: Some(upload.digest.clone()),
                data: upload.bytes()?,
                ..Default::default()
            });
        }
        let request = BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests,
            ..BatchUpdateBlobsRequest::default()
        };
        retried(async || {
            let answer = self.client().batch_update_blobs(request.clone()).await?;
            let responses = answer.into_inner().responses;
            if responses.len() != batch.len() {
                return Err(ClusterError::Protocol(
                    "not each blob of a batch has a status",
                ));
            }
            responses.into_iter().try_for_each(|response| {
                let status = response.status.unwrap_or_default();
                match Code::from(status.code) {
                    Code::Ok => Ok(()),
                    code => Err(tonic::Status::new(code, status.message).into()),
                }
            })
        })
        .await
    }

    /// Sends a blob as a stream. Whoever was faster ends it early, with the whole size.
    async fn send_stream(
        &self,
        upload: &Upload<'_>,
        sent: &Arc<AtomicU64>,
    ) -> Result<(), ClusterError> {
        repeated(async || {
            let name = format!(
                "{}uploads/{}/blobs/{}/{}",
                self.prefix(),
                random_uuid()?,
                upload.digest.hash,
                upload.digest.size_bytes
            );
            let chunks = Chunks::open(name, upload)?;
            let moved = Arc::new(AtomicU64::new(0));
            let state = (chunks, moved.clone(), sent.clone());
            let messages = stream::unfold(state, |(mut chunks, moved, sent)| async {
                let message = chunks.next()?;
                let bytes = message.data.len() as u64;
                _ = moved.fetch_add(bytes, Ordering::Relaxed);
                _ = sent.fetch_add(bytes, Ordering::Relaxed);
                Some((message, (chunks, moved, sent)))
            });
            let mut client = ByteStreamClient::new(self.service.clone());
            let answer = async { Ok(client.write(messages).await?.into_inner()) };
            match while_moving(&moved, PATIENCE, answer).await?.committed_size {
                done if done == upload.digest.size_bytes || done == -1 => Ok(()),
                _ => Err(blob_error(&upload.digest, "only half sent")),
            }
        })
        .await
    }

    /// The bytes of a blob that is known to be small enough for memory.
    pub(crate) async fn read_whole(&self, digest: &Digest) -> Result<Vec<u8>, ClusterError> {
        let mut bytes = Vec::new();
        self.read(digest, &mut bytes).await?;
        Ok(bytes)
    }

    /// Writes a blob's bytes to `out`, as many as its digest says. A stream that breaks goes on
    /// where it broke.
    pub(crate) async fn read(
        &self,
        digest: &Digest,
        out: &mut dyn Write,
    ) -> Result<(), ClusterError> {
        let (mut done, mut broken, mut before) = (0, 0, 0);
        while done < digest.size_bytes {
            match self.read_from(digest, &mut done, out).await {
                Ok(()) if done == digest.size_bytes => break,
                Ok(()) => return Err(blob_error(digest, "shorter than its digest says")),
                Err(error) if error.is_passing() && broken < RESUMES => {
                    broken += 1;
                    if done - before >= PROGRESS {
                        (broken, before) = (0, done);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100 << broken)).await;
                }
                Err(ClusterError::Call {
                    code: Code::NotFound,
                    ..
                }) => return Err(blob_error(digest, "missing")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read_from(
        &self,
        digest: &Digest,
        done: &mut i64,
        out: &mut dyn Write,
    ) -> Result<(), ClusterError> {
        let request = ReadRequest {
            resource_name: format!(
                "{}blobs/{}/{}",
                self.prefix(),
                digest.hash,
                digest.size_bytes
            ),
            read_offset: *done,
            read_limit: 0,
        };
        let mut client = ByteStreamClient::new(self.service.clone());
        let answer = patiently(async { Ok(client.read(request).await?) }).await?;
        let mut messages = answer.into_inner();
        let mut empty = 0;
        while let Some(message) = patiently(async { Ok(messages.message().await?) }).await? {
            let length = i64::try_from(message.data.len()).unwrap_or(i64::MAX);
            if length > digest.size_bytes - *done {
                return Err(blob_error(digest, "longer than its digest says"));
            }
            empty += usize::from(message.data.is_empty());
            if empty > MAX_EMPTY {
                return Err(blob_error(digest, "sent without bytes"));
            }
            out.write_all(&message.data)
                .map_err(|error| ClusterError::File {
                    path: "the blob's file".into(),
                    reason: error.to_string(),
                })?;
            *done += length;
        }
        Ok(())
    }

    fn client(&self) -> ContentAddressableStorageClient<Service> {
        ContentAddressableStorageClient::new(self.service.clone())
    }

    /// What names of blobs begin with.
    fn prefix(&self) -> String {
        match self.instance.as_str() {
            "" => String::new(),
            instance => format!("{instance}/"),
        }
    }
}

impl Upload<'_> {
    fn bytes(&self) -> Result<Vec<u8>, ClusterError> {
        let bytes = match self.content {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::File(path) => host::read(path).map_err(|error| file_error(path, &error))?,
        };
        match bytes.len() as u64 == size(&self.digest) {
            true => Ok(bytes),
            false => Err(blob_error(&self.digest, "of another length here")),
        }
    }
}

/// The messages of a blob that is sent as a stream.
struct Chunks {
    /// In the first message only.
    name: String,
    source: Box<dyn Read + Send>,
    at: i64,
    size: i64,
}

impl Chunks {
    fn open(name: String, upload: &Upload<'_>) -> Result<Self, ClusterError> {
        let source: Box<dyn Read + Send> = match upload.content {
            Content::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes.to_vec())),
            Content::File(path) => {
                Box::new(host::open(path).map_err(|error| file_error(path, &error))?)
            }
        };
        Ok(Self {
            name,
            source,
            at: 0,
            size: upload.digest.size_bytes,
        })
    }

    /// A file that ends early ends the stream early, which the server refuses.
    fn next(&mut self) -> Option<WriteRequest> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(CHUNK)];
        if data.is_empty() || self.source.read_exact(&mut data).is_err() {
            return None;
        }
        let write_offset = self.at;
        self.at += i64::try_from(data.len()).unwrap_or(0);
        Some(WriteRequest {
            resource_name: std::mem::take(&mut self.name),
            write_offset,
            finish_write: self.at == self.size,
            data,
        })
    }
}

/// Groups of blobs that fit into a message each.
fn batches<'a, 'b>(uploads: &'a [Upload<'b>], max: u64) -> Vec<&'a [Upload<'b>]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, upload) in uploads.iter().enumerate() {
        let more = size(&upload.digest) + FRAME;
        if bytes + more > max && at > start {
            batches.push(&uploads[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < uploads.len() {
        batches.push(&uploads[start..]);
    }
    batches
}

/// In bytes.
pub(crate) fn total(uploads: &[Upload<'_>]) -> u64 {
    uploads.iter().map(|upload| size(&upload.digest)).sum()
}

fn size(digest: &Digest) -> u64 {
    u64::try_from(digest.size_bytes).unwrap_or(0)
}

fn blob_error(digest: &Digest, problem: &'static str) -> ClusterError {
    ClusterError::Blob {
        hash: digest.hash.clone(),
        problem,
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> ClusterError {
    ClusterError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// A random UUID, version 4 (RFC 9562), which names one attempt to send a blob.
fn random_uuid() -> Result<String, ClusterError> {
    let bytes =
        host::random::<16>().map_err(|error| file_error(Path::new("/dev/urandom"), &error))?;
    Ok(kiln_graph::versioned_uuid(bytes, 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::of_bytes;
    use proptest::prelude::*;

    fn upload(bytes: &[u8]) -> Upload<'_> {
        Upload {
            digest: of_bytes(bytes),
            content: Content::Bytes(bytes),
        }
    }

    proptest! {
        #[test]
        fn batches_hold_all_in_order_and_fit(
            sizes in prop::collection::vec(0u16..2000, 0..40), max in 1u64..5000,
        ) {
            let blobs: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0; size.into()]).collect();
            let uploads: Vec<_> = blobs.iter().map(|blob| upload(blob)).collect();
            let batches = batches(&uploads, max);
            let flat: Vec<u64> = batches.iter().copied().flatten().map(|u| size(&u.digest)).collect();
            prop_assert_eq!(flat, sizes.iter().map(|&size| size.into()).collect::<Vec<u64>>());
            for batch in batches {
                let bytes: u64 = batch.iter().map(|u| size(&u.digest) + FRAME).sum();
                prop_assert!(bytes <= max || batch.len() == 1);
            }
        }

        #[test]
        fn chunks_are_the_blob(length in 1usize..(3 << 20)) {
            let bytes = vec![7; length];
            let mut chunks = Chunks::open("name".to_owned(), &upload(&bytes)).unwrap();
            let (mut sent, mut last) = (0, false);
            while let Some(message) = chunks.next() {
                prop_assert!(!last);
                prop_assert_eq!(message.resource_name.is_empty(), sent > 0);
                prop_assert_eq!(message.write_offset, i64::try_from(sent).unwrap());
                sent += message.data.len();
                last = message.finish_write;
            }
            prop_assert!(last && sent == length);
        }
    }

    #[test]
    fn uuids_are_random() {
        let one = random_uuid().unwrap();
        assert_eq!((one.len(), one.as_bytes()[14]), (36, b'4'));
        assert_ne!(one, random_uuid().unwrap());
    }
}
