//! Actions that wait, run, or have ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::ReadResponse;
use bazel_remote_apis::google::longrunning as long;
use bazel_remote_apis::google::protobuf::{Any, Timestamp};
use futures_util::stream;
use kiln_solve::Cancel;
use kiln_tree::host;
use long::operation::Result as Outcome;
use prost::Message;
use reapi::execution_stage::Value as Stage;
use reapi::{Digest, ExecuteOperationMetadata, ExecuteResponse, ExecutedActionMetadata};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use super::{CHUNK, Messages};

/// So many actions may wait or run.
const MAX_OPEN: usize = 1000;
/// What came of an action is known for so long.
const KEPT: Duration = Duration::from_secs(600);
/// An action that nobody listens to is stopped after so long: its client may only have lost its connection.
const ABANDONED: Duration = Duration::from_secs(120);
/// What is kept of the output of all actions that have ended, in bytes: their reports name it too.
const MAX_ENDED_LOGS: usize = 64 << 20;
/// How often it is looked whether anybody listens.
const INTERVAL: Duration = Duration::from_millis(200);

/// All actions of a node.
pub(super) struct Operations {
    /// Places to run in.
    pub(super) slots: Arc<Semaphore>,
    all: Mutex<HashMap<String, Arc<Operation>>>,
}

/// One action.
pub(super) struct Operation {
    /// What it is called; nobody guesses it.
    name: String,
    worker: String,
    action: Digest,
    /// Stops it.
    pub(super) cancel: Cancel,
    queued: SystemTime,
    state: watch::Sender<State>,
    /// What it has written.
    log: watch::Sender<Vec<u8>>,
}

#[derive(Clone)]
enum State {
    Queued,
    Runs(SystemTime),
    Done {
        began: Option<SystemTime>,
        ended: Instant,
        response: Arc<ExecuteResponse>,
    },
}

impl Operations {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(jobs.max(1))),
            all: Mutex::default(),
        }
    }

    /// A new action that waits.
    pub(super) fn add(&self, action: Digest, worker: &str) -> Result<Arc<Operation>, Status> {
        let mut all = self.lock();
        all.retain(|_, operation| !operation.is_forgotten());
        forget_logs(all.values(), MAX_ENDED_LOGS);
        let open = all.values().filter(|operation| operation.ended().is_none());
        if open.count() >= MAX_OPEN {
            return Err(Status::resource_exhausted("too many actions wait"));
        }
        let random = host::random::<16>().map_err(|_| Status::internal("no randomness"))?;
        let name = kiln_graph::versioned_uuid(random, 4);
        let operation = Arc::new(Operation {
            name: name.clone(),
            worker: worker.to_owned(),
            action,
            cancel: Cancel::new(),
            queued: SystemTime::now(),
            state: watch::Sender::new(State::Queued),
            log: watch::Sender::new(Vec::new()),
        });
        _ = all.insert(name, operation.clone());
        Ok(operation)
    }

    /// An action by its name.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Operation>, Status> {
        let name = name.rsplit('/').next().unwrap_or_default();
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| Status::not_found("there is no such operation"))
    }

    /// Stops all.
    pub(super) fn stop(&self) {
        for operation in self.lock().values() {
            operation.cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Operation>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    /// What tells it from all others.
    pub(super) fn mark(&self) -> &str {
        &self.name
    }

    /// It has a place.
    pub(super) fn runs(&self) {
        _ = self.state.send_replace(State::Runs(SystemTime::now()));
    }

    /// It has ended.
    pub(super) fn end(&self, mut response: ExecuteResponse) {
        let began = match &*self.state.borrow() {
            State::Runs(began) => Some(*began),
            _ => None,
        };
        if let Some(result) = &mut response.result {
            result.execution_metadata = Some(self.metadata(began, Some(SystemTime::now())));
        }
        _ = self.state.send_replace(State::Done {
            began,
            ended: Instant::now(),
            response: Arc::new(response),
        });
        // Who reads the log looks whether there will be more.
        self.log.send_modify(|_| {});
    }

    /// More of its output.
    pub(super) fn wrote(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.log.send_modify(|log| log.extend_from_slice(bytes));
    }

    /// Returns when it was cancelled, or nobody has listened for long.
    pub(super) async fn given_up(&self) {
        let mut alone = Duration::ZERO;
        while !self.cancel.is_cancelled() && alone < ABANDONED {
            tokio::time::sleep(INTERVAL).await;
            alone = match self.state.receiver_count() {
                0 => alone + INTERVAL,
                _ => Duration::ZERO,
            };
        }
    }

    /// What becomes of it, from now to its end.
    pub(super) fn stream(self: Arc<Self>) -> Messages<long::Operation> {
        let mut states = self.state.subscribe();
        states.mark_changed();
        Box::pin(stream::unfold(Some((self, states)), |state| async move {
            let (operation, mut states) = state?;
            states.changed().await.ok()?;
            let state = states.borrow_and_update().clone();
            let is_done = matches!(state, State::Done { .. });
            let message = operation.message(state);
            Some((Ok(message), (!is_done).then_some((operation, states))))
        }))
    }

    /// What it writes, from an offset.
    pub(super) fn log(self: Arc<Self>, from: usize) -> Messages<ReadResponse> {
        let news = self.log.subscribe();
        Box::pin(stream::unfold(
            (self, news, from),
            |(operation, mut news, at)| async move {
                loop {
                    news.mark_unchanged();
                    let is_done = operation.ended().is_some();
                    let more = operation.log_from(at);
                    if !more.is_empty() {
                        let at = at + more.len();
                        let message = ReadResponse { data: more };
                        return Some((Ok(message), (operation, news, at)));
                    }
                    if is_done {
                        return None;
                    }
                    news.changed().await.ok()?;
                }
            },
        ))
    }

    /// What is known of it now.
    pub(super) fn now(&self) -> long::Operation {
        let state = self.state.borrow().clone();
        self.message(state)
    }

    /// What one message holds of what was written from an offset.
    fn log_from(&self, at: usize) -> Vec<u8> {
        let log = self.log.borrow();
        let rest = log.get(at..).unwrap_or_default();
        rest[..rest.len().min(CHUNK)].to_vec()
    }

    fn ended(&self) -> Option<Instant> {
        match *self.state.borrow() {
            State::Done { ended, .. } => Some(ended),
            State::Queued | State::Runs(_) => None,
        }
    }

    fn is_forgotten(&self) -> bool {
        self.ended().is_some_and(|ended| ended.elapsed() > KEPT)
    }

    fn message(&self, state: State) -> long::Operation {
        let (stage, began, result) = match state {
            State::Queued => (Stage::Queued, None, None),
            State::Runs(began) => (Stage::Executing, Some(began), None),
            State::Done {
                began, response, ..
            } => (Stage::Completed, began, Some(response)),
        };
        let metadata = ExecuteOperationMetadata {
            stage: stage.into(),
            action_digest: Some(self.action.clone()),
            stdout_stream_name: match began {
                Some(_) => format!("logstreams/{}", self.name),
                None => String::new(),
            },
            partial_execution_metadata: began.map(|_| self.metadata(began, None)),
            ..ExecuteOperationMetadata::default()
        };
        long::Operation {
            name: format!("operations/{}", self.name),
            metadata: Some(any("ExecuteOperationMetadata", &metadata)),
            done: result.is_some(),
            result: result.map(|response| Outcome::Response(any("ExecuteResponse", &*response))),
        }
    }

    fn metadata(
        &self,
        began: Option<SystemTime>,
        ended: Option<SystemTime>,
    ) -> ExecutedActionMetadata {
        ExecutedActionMetadata {
            worker: self.worker.clone(),
            queued_timestamp: Some(timestamp(self.queued)),
            worker_start_timestamp: began.map(timestamp),
            worker_completed_timestamp: ended.map(timestamp),
            ..ExecutedActionMetadata::default()
        }
    }
}

/// Keeps the output of the actions that ended last, up to `max` bytes of it.
fn forget_logs<'a>(all: impl Iterator<Item = &'a Arc<Operation>>, max: usize) {
    let ended = all.filter_map(|operation| Some((operation.ended()?, operation)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_by_key(|(ended, _)| std::cmp::Reverse(*ended));
    let mut kept = 0;
    for (_, operation) in ended {
        kept += operation.log.borrow().len();
        if kept > max {
            _ = operation.log.send_replace(Vec::new());
        }
    }
}

/// A message of the API, by its name.
fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/build.bazel.remote.execution.v2.{name}"),
        value: message.encode_to_vec(),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    fn ended(operations: &Operations, wrote: usize) -> Arc<Operation> {
        let operation = operations.add(Digest::default(), "worker").unwrap();
        operation.wrote(&vec![b'x'; wrote]);
        operation.end(ExecuteResponse::default());
        operation
    }

    #[tokio::test]
    async fn a_long_log_is_sent_in_messages_that_can_be_sent() {
        let operation = ended(&Operations::new(1), 2 * CHUNK + 5);
        let messages = operation.log(0).map(|message| message.unwrap().data.len());
        let lengths: Vec<usize> = messages.collect().await;
        assert_eq!(lengths, [CHUNK, CHUNK, 5]);
    }

    #[test]
    fn the_logs_of_those_that_ended_first_are_forgotten_first() {
        let operations = Operations::new(1);
        let (first, last) = (ended(&operations, 10), ended(&operations, 10));
        let open = operations.add(Digest::default(), "worker").unwrap();
        open.wrote(&[b'x'; 10]);
        let all = [&first, &open, &last].map(Clone::clone);
        forget_logs(all.iter(), 10);
        let left = [&first, &last, &open].map(|operation| operation.log_from(0).len());
        assert_eq!(left, [0, 10, 10]);
    }
}
