//! `containerd.services.content.v1.Content` in the client: blobs of OCI layouts, to be read and written.

use std::io::{Read, Write};
use std::sync::Arc;

use futures_util::stream;
use kiln_graph::BlobDigest;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status, Streaming};

use super::Session;
use crate::grpc::messages;
use crate::proto::content::{
    ReadContentRequest, ReadContentResponse, WriteAction, WriteContentRequest, WriteContentResponse,
};

const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// Bytes in one message: messages of 4 MiB aren't taken.
const PIECE: u64 = 1 << 20;

/// A store of blobs that a client has. All calls block.
#[derive(Clone, Debug)]
pub(crate) struct ClientStore {
    runtime: Handle,
    session: Arc<Session>,
    /// The client's name for it: `export`, `oci:NAME`, `local:DIRECTORY`.
    name: String,
}

impl ClientStore {
    /// The store of a name.
    pub(crate) fn new(runtime: Handle, session: Arc<Session>, name: String) -> Self {
        Self {
            runtime,
            session,
            name,
        }
    }

    fn metadata(&self) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        let name = MetadataValue::try_from(self.name.as_str());
        let name = name.map_err(|_| Status::invalid_argument("the name of a store of blobs"))?;
        metadata.insert("buildkit-attachable-store-id", name);
        Ok(metadata)
    }

    /// Copies a blob of no more than `max` bytes out of the client; what isn't what its digest says is
    /// an error.
    pub(crate) fn read(
        &self,
        digest: &BlobDigest,
        max: u64,
        mut to: impl Write,
    ) -> Result<(), Status> {
        let message = ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        };
        let once = stream::iter([message]);
        let call = self.session.streaming(READ, self.metadata()?, once);
        let mut pieces: Streaming<ReadContentResponse> = self.runtime.block_on(call)?;
        let (mut hash, mut count) = (Sha256::new(), 0u64);
        while let Some(piece) = self.runtime.block_on(pieces.message())? {
            count += piece.data.len() as u64;
            if count > max {
                let text = format!("the client's blob {digest} is larger than {max} bytes");
                return Err(Status::resource_exhausted(text));
            }
            hash.update(&piece.data);
            let written = to.write_all(&piece.data);
            written.map_err(|error| Status::unknown(format!("{digest}: {error}")))?;
        }
        match BlobDigest::from_sha256(hash.finalize().into()) == *digest {
            true => Ok(()),
            false => Err(Status::data_loss(format!(
                "the client's blob {digest} isn't what its digest says"
            ))),
        }
    }

    /// A document of no more than `max` bytes.
    pub(crate) fn document(&self, digest: &BlobDigest, max: u64) -> Result<Vec<u8>, Status> {
        let mut bytes = Vec::new();
        self.read(digest, max, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives the client a blob, unless it has it.
    pub(crate) fn write(
        &self,
        kind: &str,
        digest: &BlobDigest,
        size: u64,
        mut from: impl Read,
    ) -> Result<(), Status> {
        let (to, outgoing) = mpsc::channel(1);
        let mut wire = Writing { store: self, to };
        let total = i64::try_from(size).unwrap_or(i64::MAX);
        let first = WriteContentRequest {
            r#ref: format!("{kind}-{digest}"),
            total,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        // The call has its answer with the first message's.
        wire.to.try_send(first).map_err(|_| gone())?;
        let call = self
            .session
            .streaming(WRITE, self.metadata()?, messages(outgoing));
        let mut answers = match self.runtime.block_on(call) {
            Ok(answers) => answers,
            Err(status) => return content_with(status),
        };
        match wire.all(&mut answers, total, digest, &mut from) {
            Err(status) => content_with(status),
            Ok(()) => Ok(()),
        }
    }
}

/// A client that has a blob says so, and is content.
fn content_with(status: Status) -> Result<(), Status> {
    match status.code() {
        Code::AlreadyExists => Ok(()),
        _ => Err(status),
    }
}

fn gone() -> Status {
    Status::unavailable("the client stopped taking blobs")
}

/// One blob on its way to the client.
struct Writing<'a> {
    store: &'a ClientStore,
    to: mpsc::Sender<WriteContentRequest>,
}

impl Writing<'_> {
    fn answer(
        &self,
        answers: &mut Streaming<WriteContentResponse>,
    ) -> Result<WriteContentResponse, Status> {
        let answer = self.store.runtime.block_on(answers.message())?;
        answer.ok_or_else(gone)
    }

    fn all(
        &mut self,
        answers: &mut Streaming<WriteContentResponse>,
        total: i64,
        digest: &BlobDigest,
        from: &mut impl Read,
    ) -> Result<(), Status> {
        // What a write that was broken off left there is passed over.
        let there = u64::try_from(self.answer(answers)?.offset).unwrap_or(0);
        let broken = |error: std::io::Error| Status::unknown(format!("{digest}: {error}"));
        let skipped = std::io::copy(&mut from.take(there), &mut std::io::sink());
        let mut offset = skipped.map_err(broken)?;
        loop {
            let mut data = Vec::new();
            from.take(PIECE).read_to_end(&mut data).map_err(broken)?;
            let is_over = data.is_empty();
            let action = match is_over {
                true => WriteAction::Commit,
                false => WriteAction::Write,
            };
            let count = data.len() as u64;
            let message = WriteContentRequest {
                action: action.into(),
                total,
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                expected: match is_over {
                    true => digest.to_string(),
                    false => String::new(),
                },
                data,
                ..WriteContentRequest::default()
            };
            self.to.blocking_send(message).map_err(|_| gone())?;
            _ = self.answer(answers)?;
            offset += count;
            if is_over {
                return Ok(());
            }
        }
    }
}
