//! What executors and sources are tried with alike: jobs, what is told of them, and a look at the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_cache::Store;
use kiln_graph::conformance::{Nonconforming, in_threads, rule, says_something};
use kiln_graph::{Graph, Location, Op, Platform, Step, StepId, TreeId};
use kiln_solve::{Cancel, Event, EventSink, Job, StepError as _, StepRef, StepResult};
use kiln_tree::TreeRoot;

use crate::EngineError;

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
        Job::alone(&self.graph, self.id, inputs, events, cancel)
    }

    /// Nothing is told of other steps.
    pub(super) fn told_alone(&self, heard: &Heard) -> Result<(), Nonconforming> {
        let own = StepRef::from(self.id);
        let events = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |event: &Event| match event {
            Event::Output { step, .. } | Event::Used { step, .. } | Event::Placed { step, .. } => {
                *step == own
            }
            // These are the solver's to say.
            Event::Planned { .. } | Event::Finished { .. } => false,
            _ => true,
        };
        rule(
            events.iter().all(is_own),
            "events are told of other steps, or such as only the solver tells",
        )
    }
}

/// A part that is tried: what does a job.
pub(super) struct Part<'a, W> {
    /// What the steps are made from.
    pub(super) inputs: &'a [StepResult],
    pub(super) work: W,
}

impl<T, W> Part<'_, W>
where
    T: Send,
    W: Fn(&Job<'_>) -> Result<T, EngineError> + Sync,
{
    /// What it makes of a step, in a build of this state.
    pub(super) fn done(
        &self,
        step: &Step,
        cancel: &Cancel,
    ) -> Result<Result<T, EngineError>, Nonconforming> {
        let step = OneStep::new(step, self.inputs.len())?;
        Ok((self.work)(&step.job(
            self.inputs,
            &Heard::default(),
            cancel,
        )))
    }

    /// How it fails with a step that it has to fail with; `taken` says that it didn't.
    pub(super) fn failed(
        &self,
        step: &Step,
        taken: &'static str,
    ) -> Result<EngineError, Nonconforming> {
        let Err(error) = self.done(step, &Cancel::new())? else {
            return Err(Nonconforming::Rule(taken));
        };
        rule(
            !error.is_cancelled(),
            "a failure is said to be a cancelled build",
        )?;
        says_something(&error.to_string())?;
        Ok(error)
    }

    /// What several threads get that have it do a step at once.
    pub(super) fn in_threads(&self, step: &Step) -> Result<Vec<T>, Nonconforming> {
        let failed = Nonconforming::failed("do the same in several threads");
        in_threads(|| self.done(step, &Cancel::new())?.map_err(&failed))
    }

    /// A build that is cancelled already may have the step or not, and fails with nothing else: with `text` if it does.
    pub(super) fn cancelled_before(
        &self,
        step: &Step,
        text: &'static str,
    ) -> Result<(), Nonconforming> {
        let cancel = Cancel::new();
        cancel.cancel();
        let error = self.done(step, &cancel)?.err();
        rule(error.is_none_or(|error| error.is_cancelled()), text)
    }
}

/// The step of the empty tree.
pub(super) fn scratch() -> Step {
    Step::plain("scratch", Op::Scratch, Platform::host())
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

/// The store has a tree.
pub(super) fn in_store(store: &Store, tree: &TreeId) -> Result<(), Nonconforming> {
    let found = store.trees().get(tree);
    let found = found.map_err(Nonconforming::failed("look for the tree"))?;
    rule(found.is_some(), "the tree isn't in the store")
}

/// All trees of a store, and the directories among these results, are what their manifests say.
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
