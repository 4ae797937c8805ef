//! The standard output of an action that runs, where a server streams it: a resource of ByteStream that
//! grows until the action has ended.

use bazel_remote_apis::google::bytestream::ReadRequest;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::channel::Service;
use crate::live::MAX_LIVE;
use crate::progress::Told;
use crate::storage::MAX_EMPTY;

/// How often reading begins again where it broke.
const RESUMES: u32 = 8;
const WAIT: std::time::Duration = std::time::Duration::from_millis(300);

/// A stream that is read as long as the value lives.
#[derive(Debug)]
pub(crate) struct LogStream(AbortHandle);

impl LogStream {
    /// Begins to read a stream; to be called on the network's runtime. A stream that can't be read is no
    /// loss: the log comes when the action has ended.
    pub(crate) fn follow(service: &Service, name: &str, told: &UnboundedSender<Told>) -> Self {
        let (service, name, told) = (service.clone(), name.to_owned(), told.clone());
        let reading = tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..RESUMES {
                match read_from(&service, &name, &mut done, &told).await {
                    Some(()) => return,
                    None => tokio::time::sleep(WAIT).await,
                }
            }
        });
        Self(reading.abort_handle())
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads on to the end; nothing when the stream broke before.
async fn read_from(
    service: &Service,
    name: &str,
    done: &mut i64,
    told: &UnboundedSender<Told>,
) -> Option<()> {
    let request = ReadRequest {
        resource_name: name.to_owned(),
        read_offset: *done,
        read_limit: 0,
    };
    let mut client = ByteStreamClient::new(service.clone());
    let mut messages = client.read(request).await.ok()?.into_inner();
    let mut empty = 0;
    while let Some(message) = messages.message().await.ok()? {
        empty += usize::from(message.data.is_empty());
        let length = i64::try_from(message.data.len()).ok()?;
        *done += length;
        let is_too_much = usize::try_from(*done).is_ok_and(|done| done > 2 * MAX_LIVE);
        // The helper writes no more: it isn't the helper's.
        if is_too_much || empty > MAX_EMPTY || told.send(Told::Output(message.data)).is_err() {
            return Some(());
        }
    }
    Some(())
}
