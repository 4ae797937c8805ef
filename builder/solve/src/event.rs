//! What happens during a build, as it happens: all that a progress display needs.
//!
//! As JSON (`--progress rawjson`), version 1: one object a line on standard error. The first is
//! `{"event":"version","version":1}`; each other one has the name of its kind as `event` and the
//! fields of [`Event`]: times are `{"secs":S,"nanos":N}`, steps are numbers, a step's output is text
//! in which bytes that are no UTF-8 are replaced. New kinds and fields may come without a new
//! version; what is there keeps its meaning.

use std::time::Duration;

use kiln_graph::{BlobDigest, Location, StepId, StepKey, TreeId};
use serde::Serialize;

/// The version of events as JSON.
pub const EVENTS_VERSION: u32 = 1;

/// One thing that happened. Events of one step come in order; those of several are interleaved.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The steps this build needs, before anything else.
    Planned {
        /// Every step, in an order they can run in.
        steps: Vec<PlannedStep>,
    },
    /// A step is being run, or a source fetched or scanned. Of a step that runs along with one before
    /// it, this may come twice.
    Started {
        /// Which.
        step: StepRef,
    },
    /// A step wrote something.
    Output {
        /// Which.
        step: StepRef,
        /// Where to.
        stream: Stream,
        /// The bytes as they came, cut anywhere.
        #[serde(serialize_with = "as_text")]
        bytes: Vec<u8>,
    },
    /// A step is done.
    Finished {
        /// Which.
        step: StepRef,
        /// How it went.
        outcome: Outcome,
        /// How long it took since it was started; for a cached step, how long looking it up took.
        duration: Duration,
        /// What the step's result is filed under.
        key: Option<StepKey>,
        /// The trees that it added or fetched.
        trees: Vec<TreeId>,
        /// The layers of a base image: digests of the uncompressed tars.
        layers: Vec<BlobDigest>,
    },
    /// A command of a step ended, and used this of the machine. One that is tried again has
    /// several.
    Used {
        /// Which step.
        step: StepRef,
        /// Processor time of all its processes together.
        cpu: Duration,
        /// The most memory that one of its processes had at once, in bytes.
        memory: u64,
    },
    /// Where a step runs that could run elsewhere.
    Placed {
        /// Which.
        step: StepRef,
        /// The cluster and, once it is known, the worker; nothing: this machine.
        place: Option<String>,
        /// Why it runs here.
        reason: Option<String>,
        /// How long it waited for a worker, once that is known.
        queued: Option<Duration>,
        /// Whether it waits for a worker.
        waiting: bool,
    },
    /// Something is being transferred, compressed or written.
    Transfer {
        /// What, the same text for the whole transfer.
        name: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
        /// Whether this is the transfer's last event.
        finished: bool,
    },
    /// Something the user should know that doesn't stop the build.
    Warning {
        /// In plain words.
        message: String,
    },
}

/// A step, by its position in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StepRef(pub usize);

impl From<StepId> for StepRef {
    fn from(id: StepId) -> Self {
        Self(id.index())
    }
}

/// A step that this build needs.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// Which.
    pub step: StepRef,
    /// Its name.
    pub name: String,
    /// Where the build file asks for it.
    pub location: Option<Location>,
    /// The steps it is made from.
    pub inputs: Vec<StepRef>,
    /// Whether it is one of the author's instructions, not a source that one of them needs.
    pub instruction: bool,
}

/// Where a step's output went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was run.
    Ran,
    /// Its result was there already.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped, because another step failed or the user asked for it.
    Cancelled,
}

/// Takes the events of a build. Called from many threads; must not block for long.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> EventSink for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

fn as_text<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}
