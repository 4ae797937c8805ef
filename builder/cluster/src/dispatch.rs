//! Sends a chain of steps as an action, and has it run.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2::{ActionResult, Digest};
use kiln_execute::meter;
use kiln_solve::Job;
use tokio::sync::mpsc::unbounded_channel;

use crate::action::OrderedAction;
use crate::connection::{Connection, notified};
use crate::execution::Execution;
use crate::failure::Failure;
use crate::inputs::{Inputs, Origin};
use crate::progress::Watch;
use crate::storage::{Content, Upload, total};
use crate::{ClusterError, ExecutorSettings};

/// A transfer of less than this is over before anybody reads of it, in bytes.
const MIN_SHOWN: u64 = 1 << 20;
/// So much is sent without waiting for others, in bytes: descriptions of steps, and small trees.
const MAX_AT_ONCE: u64 = 1 << 20;
/// How often it is looked whether others have sent what they send.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// How often a transfer is told of.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where an action goes, and for which step.
#[derive(Clone, Copy)]
pub(crate) struct Dispatch<'a> {
    pub(crate) settings: &'a ExecutorSettings,
    /// What the cluster is called.
    pub(crate) server: &'a str,
    pub(crate) connection: &'a Connection,
    /// Held while much is sent: what several steps need is sent once.
    pub(crate) sending: &'a Mutex<()>,
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
        let (stop, _guard) = notified(self.job.cancel);
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
        let messages = action.messages.iter().map(|stored| &stored.digest).cloned();
        let all: Vec<Digest> = inputs.digests().chain(messages).collect();
        let mut missing = self.missing(&all)?;
        let mut alone = None;
        if size_of(&all, &missing) > MAX_AT_ONCE {
            // Somebody else may be sending it.
            alone = Some(self.alone()?);
            missing = self.missing(&all)?;
        }
        let sent = self.send_all(inputs, action, &missing);
        drop(alone);
        sent
    }

    fn send_all(
        &self,
        inputs: &mut Inputs,
        action: &OrderedAction,
        missing: &HashSet<String>,
    ) -> Result<u64, Failure> {
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
        let work = self.connection.storage.send_all(uploads, &sent);
        if all < MIN_SHOWN {
            return Ok(self.wait(work)?);
        }
        let name = format!("push to {} {}", self.server, &action.digest.hash[..12]);
        let meter = meter(&self.from.trees.store, self.job.events, name, Some(all));
        let tell = || meter.set(sent.load(Ordering::Relaxed));
        let sent = self.wait(while_telling(work, &tell))?;
        tell();
        Ok(sent)
    }

    fn missing(&self, all: &[Digest]) -> Result<HashSet<String>, ClusterError> {
        self.wait(self.connection.storage.missing(all.iter().cloned()))
    }

    /// Waits until nobody else sends much.
    fn alone(&self) -> Result<MutexGuard<'_, ()>, ClusterError> {
        while !self.job.cancel.is_cancelled() {
            match self.sending.try_lock() {
                Ok(alone) => return Ok(alone),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
            }
        }
        Err(ClusterError::Cancelled)
    }

    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        self.connection.wait(self.job.cancel, work)
    }
}

/// How many bytes of these are missing.
fn size_of(all: &[Digest], missing: &HashSet<String>) -> u64 {
    let missing = all.iter().filter(|digest| missing.contains(&digest.hash));
    let sizes = missing.map(|digest| u64::try_from(digest.size_bytes).unwrap_or(0));
    sizes.fold(0, u64::saturating_add)
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
