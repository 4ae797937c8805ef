//! `FileSend.DiffCopy`: sends results to the client. One method, two protocols: archives are streams
//! of bytes, directories are fsutil's packets with this side as the sender.

use std::io::Read;
use std::sync::Arc;

use kiln_engine::OutputEntry;
use tokio::sync::mpsc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status, Streaming};

use super::Session;
use super::sender::Sender;
use crate::grpc::messages;
use crate::proto::filesync::BytesMessage;
use crate::proto::fsutil::Packet;

const PATH: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Bytes of an archive in one message: messages of 4 MiB aren't taken.
const PIECE: usize = 1 << 20;

/// Says which exporter of the build's request this is for.
fn metadata(exporter: usize) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let value = MetadataValue::from(exporter as u64);
    metadata.insert("buildkit-attachable-exporter-id", value);
    metadata
}

fn is_offered(session: &Session) -> Result<(), Status> {
    match session.offers(PATH) {
        true => Ok(()),
        false => Err(Status::unimplemented("the client takes no files")),
    }
}

/// Sends an archive as it is read, and waits until the client has it. A client that has it already
/// says so, and is content.
pub(crate) async fn send_tar(
    session: &Arc<Session>,
    exporter: usize,
    archive: impl Read + Send + 'static,
) -> Result<(), Status> {
    is_offered(session)?;
    let (to, from) = mpsc::channel(4);
    let reading = tokio::task::spawn_blocking(move || read_pieces(archive, &to));
    let answers = session.streaming(PATH, metadata(exporter), messages(from));
    let done = match answers.await {
        Ok(answers) => drain::<BytesMessage>(answers).await,
        Err(status) => Err(status),
    };
    match done {
        Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
        other => other?,
    }
    match reading.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Status::unknown(format!("cannot read the archive: {error}"))),
        Err(_) => Err(Status::internal("reading the archive ended early")),
    }
}

/// Waits for the end of what the client says: that is when its file is closed.
async fn drain<T>(mut answers: Streaming<T>) -> Result<(), Status> {
    while answers.message().await?.is_some() {}
    Ok(())
}

fn read_pieces(mut archive: impl Read, to: &mpsc::Sender<BytesMessage>) -> std::io::Result<()> {
    loop {
        let mut data = Vec::with_capacity(PIECE);
        archive.by_ref().take(PIECE as u64).read_to_end(&mut data)?;
        if data.is_empty() || to.blocking_send(BytesMessage { data }).is_err() {
            return Ok(());
        }
    }
}

/// Sends files into the client's directory, and waits until they are there. Where they are all that is sent, the
/// client may remove others.
pub(crate) async fn send_files(
    session: &Arc<Session>,
    exporter: usize,
    files: Vec<OutputEntry>,
    is_all: bool,
) -> Result<(), Status> {
    is_offered(session)?;
    let mut metadata = metadata(exporter);
    if is_all {
        let one = MetadataValue::from_static("1");
        metadata.insert("buildkit-exporter-multi-platform", one);
    }
    let (to, from) = mpsc::channel(64);
    let (wanted, requests) = mpsc::unbounded_channel();
    let sender = Sender::new(files);
    let sending = tokio::task::spawn_blocking(move || sender.send(&to, requests));
    let answers = session.streaming(PATH, metadata, messages(from));
    let mut answers: Streaming<Packet> = answers.await?;
    while let Some(packet) = answers.message().await? {
        // Once all is sent nothing more is asked for.
        _ = wanted.send(packet);
    }
    drop(wanted);
    match sending.await {
        Ok(sent) => sent,
        Err(_) => Err(Status::internal("sending files ended early")),
    }
}
