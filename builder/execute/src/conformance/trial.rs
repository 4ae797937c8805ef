//! What executors and sources are tried with alike: jobs, what is told of them, and a look at the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_cache::Store;
use kiln_graph::conformance::{Nonconforming, rule};
use kiln_graph::{Graph, Location, Op, Platform, Reuse, Step, StepId, StepName, WorkerProperties};
use kiln_solve::{Cancel, Event, EventSink, Job, StepRef, StepResult};
use kiln_tree::TreeRoot;

use crate::EngineError;

/// How many threads ask at once.
pub(super) const THREADS: usize = 4;

/// A cancelled job ends within this time.
pub(super) const END_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 20 });

/// A step in a graph of its own.
pub(super) struct OneStep {
    graph: Graph,
    id: StepId,
}

impl OneStep {
    /// The step, said to stand at a place of its own in a build file, with as many inputs as there are.
    pub(super) fn new(step: &Step, inputs: usize) -> Result<Self, Nonconforming> {
        let failed = Nonconforming::failed("make a graph of the step");
        let mut graph = Graph::new();
        let empty = (0..inputs).map(|_| graph.add(scratch(), Vec::new()));
        let below = empty.collect::<Result<Vec<_>, _>>();
        let mut step = step.clone();
        step.location = Some(Self::location());
        let id = below.and_then(|below| graph.add(step, below));
        let id = id.map_err(failed)?;
        Ok(Self { graph, id })
    }

    /// Where the build file asks for it.
    pub(super) fn location() -> Location {
        Location {
            file: "conformance".into(),
            line: 7,
            column: 1,
            end_line: 7,
        }
    }

    pub(super) fn job<'a>(
        &'a self,
        inputs: &'a [StepResult],
        events: &'a Heard,
        cancel: &'a Cancel,
    ) -> Job<'a> {
        Job {
            id: self.id,
            definition: self.graph.definition(self.id),
            step: self.graph.step(self.id),
            inputs,
            keep_output: false,
            ahead: None,
            events,
            cancel,
        }
    }

    /// Whether nothing was told of other steps.
    pub(super) fn is_told_alone(&self, heard: &Heard) -> bool {
        let own = StepRef::from(self.id);
        let events = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().all(|event| match event {
            Event::Output { step, .. } | Event::Used { step, .. } | Event::Placed { step, .. } => {
                *step == own
            }
            // These are the solver's to say.
            Event::Planned { .. } | Event::Finished { .. } => false,
            _ => true,
        })
    }
}

/// The step of the empty tree.
pub(super) fn scratch() -> Step {
    Step {
        op: Op::Scratch,
        name: StepName {
            stage: String::new(),
            number: 0,
            of: 0,
            text: "scratch".to_owned(),
        },
        location: None,
        platform: Platform::host(),
        reuse: Reuse::Always,
        remote: WorkerProperties::none(),
    }
}

/// What was told.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<Event>>);

impl EventSink for Heard {
    fn event(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
    }
}

impl Heard {
    /// What the step wrote, as far as it was told.
    pub(super) fn output(&self) -> String {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut output = Vec::new();
        for event in events.iter() {
            if let Event::Output { bytes, .. } = event {
                output.extend_from_slice(bytes);
            }
        }
        String::from_utf8_lossy(&output).into_owned()
    }
}

/// Whether all trees of a store, and the directories among these results, are what their manifests say.
pub(super) fn undamaged(
    store: &Store,
    results: &[StepResult],
    text: &'static str,
) -> Result<(), Nonconforming> {
    let report = store.fsck(false);
    let report = report.map_err(Nonconforming::failed("check the store"))?;
    rule(report.damaged.is_empty(), text)?;
    let is_same = |result: &StepResult| match result {
        StepResult::Snapshot(_) => true,
        StepResult::Directory(directory) => {
            let root = TreeRoot::at(&directory.root);
            let mut entries = directory.manifest.entries().iter();
            entries.all(|entry| root.difference(entry).is_none())
        }
    };
    rule(results.iter().all(is_same), text)
}

/// What several threads get that do the same at once.
pub(super) fn in_threads<T: Send>(
    work: impl Fn() -> Result<T, EngineError> + Sync,
) -> Result<Vec<T>, Nonconforming> {
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..THREADS).map(|_| scope.spawn(&work)).collect();
        let done = working.into_iter().map(|thread| match thread.join() {
            Ok(result) => result.map_err(Nonconforming::failed("do the same in several threads")),
            Err(_) => Err(Nonconforming::Rule("it panics in several threads")),
        });
        done.collect()
    })
}
