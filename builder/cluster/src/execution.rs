//! Execution: an action is sent, watched and cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::longrunning::operations_client::OperationsClient;
use bazel_remote_apis::google::longrunning::{CancelOperationRequest, Operation, operation};
use bazel_remote_apis::google::rpc;
use prost::Message as _;
use reapi::execution_client::ExecutionClient;
use reapi::execution_stage::Value as Stage;
use reapi::{ActionResult, Digest, ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tonic::{Code, Streaming};

use crate::ClusterError;
use crate::channel::Service;
use crate::log_stream::LogStream;
use crate::outputs::Given;
use crate::progress::Told;

/// How often an action is sent, or its stream taken up again, after the server failed.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A stream that lasted so long was good.
const LONG: Duration = Duration::from_secs(10);
/// How long a server may take to confirm that it cancels.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to name what was sent.
const NAME_PATIENCE: Duration = Duration::from_secs(1);

/// One action to be run.
pub(crate) struct Execution<'a> {
    pub(crate) service: &'a Service,
    pub(crate) instance: &'a str,
    pub(crate) action: &'a Digest,
    /// How long it may wait for a worker, where the server tells.
    pub(crate) queue_limit: Duration,
    /// Stops it.
    pub(crate) stop: Arc<Notify>,
    /// Is told what becomes of it meanwhile.
    pub(crate) told: UnboundedSender<Told>,
}

/// What is known of an action on its way.
#[derive(Debug, Default)]
struct Progress {
    /// The operation's name, once the server has said it.
    name: String,
    /// Is told when it has.
    named: Arc<Notify>,
    executing: bool,
    /// Until when it may wait for a worker.
    queue_end: Option<Instant>,
    /// Its standard output, where the server streams it.
    log: Option<LogStream>,
}

/// What an operation says of an action.
enum News {
    Done(Box<ActionResult>),
    /// It waits for a worker.
    Queued,
    /// It runs; on whom, and what its standard output is streamed as, where that is known.
    Runs(Given, String),
}

impl Execution<'_> {
    /// Runs the action to its end.
    pub(crate) async fn run(&self) -> Result<ActionResult, ClusterError> {
        let mut progress = Progress::default();
        let named = progress.named.clone();
        let done = {
            let mut work = std::pin::pin!(self.persist(&mut progress));
            tokio::select! {
                done = work.as_mut() => Some(done),
                () = self.stop.notified() => {
                    // One that was just sent can't be cancelled before it has a name.
                    _ = tokio::time::timeout(NAME_PATIENCE, async {
                        tokio::select! {
                            _ = work.as_mut() => {}
                            () = named.notified() => {}
                        }
                    })
                    .await;
                    None
                }
            }
        };
        match done {
            Some(Err(error @ ClusterError::Queue(_))) => {
                self.cancel(&progress.name).await;
                Err(error)
            }
            Some(done) => done,
            None => {
                self.cancel(&progress.name).await;
                Err(ClusterError::Cancelled)
            }
        }
    }

    /// Sends the action, and takes its stream up again where it breaks: the worker goes on meanwhile.
    async fn persist(&self, progress: &mut Progress) -> Result<ActionResult, ClusterError> {
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        loop {
            let before = progress.name.clone();
            let began = Instant::now();
            let error = match self.follow(progress).await {
                Ok(completed) => return Ok(completed),
                Err(error) => error,
            };
            // The server has forgotten the operation: the action begins anew.
            let forgotten = !before.is_empty() && error.code() == Some(Code::NotFound);
            if forgotten {
                self.begin_again(progress);
            }
            // A proxy that cuts streams from time to time is no failing server.
            if began.elapsed() > LONG {
                (wait, tries) = (FIRST_WAIT, 0);
            }
            tries += 1;
            if tries >= TRIES || !(forgotten || error.is_passing() || error.is_broken_stream()) {
                return Err(error);
            }
            if error.is_of_the_action() {
                self.begin_again(progress);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    fn begin_again(&self, progress: &mut Progress) {
        *progress = Progress {
            named: progress.named.clone(),
            ..Progress::default()
        };
        self.tell(Told::Again);
    }

    /// Nobody listens any more when the build ends.
    fn tell(&self, told: Told) {
        _ = self.told.send(told);
    }

    async fn follow(&self, progress: &mut Progress) -> Result<ActionResult, ClusterError> {
        let limit = Instant::now() + self.queue_limit;
        let end = *progress.queue_end.get_or_insert(limit);
        let opened = self.open(&progress.name);
        let mut stream = self.in_time(progress.executing, end, opened).await?;
        loop {
            let next = async { Ok(stream.message().await?) };
            let next = self.in_time(progress.executing, end, next).await?;
            let operation = next.ok_or(ClusterError::BrokenStream)?;
            match progress.understand(operation)? {
                News::Done(completed) => return Ok(*completed),
                News::Queued => self.tell(Told::Queued),
                News::Runs(given, log) => {
                    self.tell(Told::Runs(given));
                    if progress.log.is_none() && !log.is_empty() {
                        let log = LogStream::follow(self.service, &log, &self.told);
                        progress.log = Some(log);
                    }
                }
            }
        }
    }

    /// Waits as long as it takes for what a worker does, but not for a worker.
    async fn in_time<T>(
        &self,
        executing: bool,
        end: Instant,
        next: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        if executing {
            return next.await;
        }
        let waited = tokio::time::timeout_at(end.into(), next).await;
        waited.map_err(|_| ClusterError::Queue(self.queue_limit.as_secs()))?
    }

    async fn open(&self, name: &str) -> Result<Streaming<Operation>, ClusterError> {
        let mut client = ExecutionClient::new(self.service.clone());
        let answer = match name {
            "" => client.execute(self.request()).await?,
            name => {
                let name = name.to_owned();
                let request = reapi::WaitExecutionRequest { name };
                client.wait_execution(request).await?
            }
        };
        Ok(answer.into_inner())
    }

    fn request(&self) -> ExecuteRequest {
        ExecuteRequest {
            instance_name: self.instance.to_owned(),
            skip_cache_lookup: true,
            action_digest: Some(self.action.clone()),
            ..ExecuteRequest::default()
        }
    }

    /// Asks the server to stop the action. Not all servers can.
    async fn cancel(&self, name: &str) {
        if name.is_empty() {
            return;
        }
        let mut client = OperationsClient::new(self.service.clone());
        let request = CancelOperationRequest {
            name: name.to_owned(),
        };
        _ = tokio::time::timeout(CANCEL_PATIENCE, client.cancel_operation(request)).await;
    }
}

impl Progress {
    /// Takes note of what a server says of the action.
    fn understand(&mut self, operation: Operation) -> Result<News, ClusterError> {
        if !operation.name.is_empty() {
            self.name = operation.name;
            self.named.notify_one();
        }
        let metadata = operation.metadata.as_ref();
        let metadata = metadata.map(|any| ExecuteOperationMetadata::decode(&any.value[..]));
        let metadata = metadata.and_then(Result::ok);
        // Servers that tell no stages run what they are sent.
        let waits = metadata
            .as_ref()
            .is_some_and(|metadata| matches!(metadata.stage(), Stage::Queued | Stage::CacheCheck));
        self.executing |= metadata.is_some() && !waits;
        if operation.done {
            return match operation.result {
                Some(operation::Result::Error(status)) => Err(action_error(&status)),
                Some(operation::Result::Response(any)) => {
                    completed(&any.value).map(|result| News::Done(Box::new(result)))
                }
                None => Err(ClusterError::Protocol(
                    "an operation that ended without a result",
                )),
            };
        }
        let Some(metadata) = metadata.filter(|_| !waits) else {
            return Ok(News::Queued);
        };
        let given = Given::of_metadata(metadata.partial_execution_metadata.as_ref());
        Ok(News::Runs(given, metadata.stdout_stream_name))
    }
}

/// The result of an action that was run; a failure of the cluster is an error, one of the command is
/// not.
fn completed(response: &[u8]) -> Result<ActionResult, ClusterError> {
    let bad = |_| ClusterError::Protocol("an answer to Execute that can't be decoded");
    let response = ExecuteResponse::decode(response).map_err(bad)?;
    if let Some(status) = response.status.filter(|status| status.code != 0) {
        return Err(action_error(&status));
    }
    let result = response.result;
    result.ok_or(ClusterError::Protocol("an execution without a result"))
}

fn action_error(status: &rpc::Status) -> ClusterError {
    let message = status.message.clone();
    match Code::from(status.code) {
        Code::Cancelled => ClusterError::Cancelled,
        Code::Unauthenticated | Code::PermissionDenied => ClusterError::Refused(message),
        code => ClusterError::Action { code, message },
    }
}
