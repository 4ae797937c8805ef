//! Sends a chain of steps as an action, and has it run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2::ActionResult;
use kiln_execute::meter;
use kiln_solve::Job;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;

use crate::action::OrderedAction;
use crate::connection::Connection;
use crate::execution::Execution;
use crate::failure::Failure;
use crate::inputs::{Inputs, Origin};
use crate::progress::Watch;
use crate::storage::{Content, Upload, total};
use crate::{ClusterError, ExecutorSettings};

/// A transfer of less than this is over before anybody reads of it, in bytes.
const MIN_SHOWN: u64 = 1 << 20;
/// How often a transfer is told of.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where an action goes, and for which step.
#[derive(Clone, Copy)]
pub(crate) struct Dispatch<'a> {
    pub(crate) settings: &'a ExecutorSettings,
    /// What the cluster is called.
    pub(crate) server: &'a str,
    pub(crate) connection: &'a Connection,
    pub(crate) job: &'a Job<'a>,
    pub(crate) from: Origin<'a>,
}

impl Dispatch<'_> {
    /// Sends an action and runs it; once more when the cluster lost inputs meanwhile.
    pub(crate) fn run(
        &self,
        inputs: &mut Inputs,
        action: &OrderedAction,
        watch: &mut Watch<'_>,
    ) -> Result<ActionResult, Failure> {
        _ = self.send(inputs, action)?;
        match self.run_once(action, watch) {
            Err(error) if error.may_be_missing_input() => match self.send(inputs, action)? {
                0 => Err(error.into()),
                _ => Ok(self.run_once(action, watch)?),
            },
            other => Ok(other?),
        }
    }

    fn run_once(
        &self,
        action: &OrderedAction,
        watch: &mut Watch<'_>,
    ) -> Result<ActionResult, ClusterError> {
        let stop = Arc::new(Notify::new());
        let stopping = stop.clone();
        let _guard = self.job.cancel.on_cancel(move || stopping.notify_one());
        let (told, mut news) = unbounded_channel();
        let execution = Execution {
            service: &self.connection.service,
            instance: &self.settings.server.instance,
            action: &action.digest,
            queue_limit: self.settings.queue_limit,
            stop,
            told,
        };
        self.connection.runtime.block_on(async {
            let mut run = std::pin::pin!(execution.run());
            loop {
                tokio::select! {
                    done = &mut run => return done,
                    Some(told) = news.recv() => watch.take(told),
                }
            }
        })
    }

    /// Sends what the cluster lacks of an action; gives the bytes.
    fn send(&self, inputs: &mut Inputs, action: &OrderedAction) -> Result<u64, Failure> {
        let Connection {
            runtime, storage, ..
        } = self.connection;
        let messages = action.messages.iter().map(|stored| &stored.digest).cloned();
        let all = inputs.digests().chain(messages);
        let missing = runtime.block_on(storage.missing(all))?;
        let is_missing = |hash: &str| missing.contains(hash);
        inputs.bring(is_missing, self.from)?;
        let mut uploads = inputs.uploads(is_missing);
        let messages = action.messages.iter();
        let messages = messages.filter(|stored| is_missing(&stored.digest.hash));
        uploads.extend(messages.map(|stored| Upload {
            digest: stored.digest.clone(),
            content: Content::Bytes(&stored.bytes),
        }));
        let all = total(&uploads);
        let sent = Arc::new(AtomicU64::new(0));
        let work = storage.send_all(uploads, &sent);
        if all < MIN_SHOWN {
            return Ok(runtime.block_on(work)?);
        }
        let name = format!("push to {} {}", self.server, &action.digest.hash[..12]);
        let meter = meter(&self.from.trees.store, self.job.events, name, Some(all));
        let tell = || meter.set(sent.load(Ordering::Relaxed));
        let sent = runtime.block_on(while_telling(work, &tell))?;
        tell();
        Ok(sent)
    }
}

/// Awaits work, and calls `tell` from time to time meanwhile.
async fn while_telling<T>(work: impl Future<Output = T>, tell: &impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(INTERVAL) => tell(),
        }
    }
}
