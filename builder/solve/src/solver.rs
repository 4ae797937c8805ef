//! Solves a graph: runs the steps that are needed, each on a thread of its own as soon as its inputs
//! are there.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use kiln_graph::{Graph, StepId, StepKey};

use crate::ahead::Known;
use crate::backend::{Backend, Part, StepError};
use crate::cancel::{Cancel, CancelHook};
use crate::done::Done;
use crate::ended::{Ended, tell};
use crate::event::{Event, EventSink, Outcome, PlannedStep};
use crate::schedule::Schedule;
use crate::slots::Slots;
use crate::snapshot::StepResult;
use crate::usable::SolveOptions;

/// Solves one graph.
pub struct Solver<'a, E> {
    pub(crate) graph: &'a Graph,
    pub(crate) options: &'a SolveOptions,
    pub(crate) backend: Backend<'a, E>,
    pub(crate) events: &'a dyn EventSink,
    /// Stops the steps: after a failure, or because the user cancels the build.
    pub(crate) cancel: Cancel,
    _following: CancelHook,
    pub(crate) slots: Slots,
    pub(crate) known: Known,
}

/// The results of the steps that were needed.
#[derive(Debug, Default)]
pub struct Solution {
    /// The results.
    pub results: BTreeMap<StepId, StepResult>,
    /// What the results of keyed steps are filed under.
    pub keys: BTreeMap<StepId, StepKey>,
    /// When the results of keyed steps were made, in seconds since 1970, where that is known.
    pub created: BTreeMap<StepId, u64>,
    /// The parts of results that the steps' keys are made of.
    pub parts: BTreeMap<StepId, Vec<Part>>,
    /// What steps of [`SolveOptions::outputs`] wrote to their standard output.
    pub outputs: BTreeMap<StepId, String>,
    /// What the names of sources that can change, such as branches, turned out to stand for.
    pub revisions: BTreeMap<StepId, String>,
}

impl<E> std::fmt::Debug for Solver<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Solver").finish_non_exhaustive()
    }
}

impl<'a, E: StepError> Solver<'a, E> {
    /// A solver that stops when `cancel` does.
    #[must_use]
    pub fn new(
        graph: &'a Graph,
        options: &'a SolveOptions,
        backend: Backend<'a, E>,
        events: &'a dyn EventSink,
        cancel: &Cancel,
    ) -> Self {
        let (own, following) = cancel.child();
        Self {
            graph,
            options,
            backend,
            events,
            _following: following,
            cancel: own,
            slots: Slots::new(options.jobs),
            known: Known::default(),
        }
    }

    /// Runs what the targets need and nobody has.
    ///
    /// # Errors
    /// The first failure; everything that still ran was stopped. In a build that goes on after
    /// failures, all of them.
    pub fn solve(&self, targets: &[StepId]) -> Result<Solution, E> {
        let mut schedule = Schedule::new(self.graph, targets);
        self.known.begin(schedule.steps());
        self.events.event(Event::Planned {
            steps: schedule.steps().map(|id| planned(self.graph, id)).collect(),
        });
        let mut progress = Progress::new(self);
        std::thread::scope(|scope| {
            let (send, ended) = channel::<Answer<E>>();
            let mut running = 0;
            // Those that look something up or wait for others don't hold a slot.
            let most = self.at_once() * 2;
            loop {
                let ready = match progress.goes_on() {
                    true => schedule.take_ready(most - running),
                    false => Vec::new(),
                };
                // With nothing else to do meanwhile, a thread would only cost time.
                if let ([only], 0) = (&ready[..], running) {
                    let answer = self.answer(*only, &progress.inputs_of(*only));
                    progress.take(&mut schedule, answer);
                    continue;
                }
                for id in ready {
                    running += 1;
                    let inputs = progress.inputs_of(id);
                    let send: Sender<Answer<E>> = send.clone();
                    scope.spawn(move || _ = send.send(self.answer(id, &inputs)));
                }
                if running == 0 {
                    break;
                }
                let Ok(answer) = ended.recv() else { break };
                running -= 1;
                progress.take(&mut schedule, answer);
            }
        });
        progress.finish()
    }

    /// How many steps run at once.
    fn at_once(&self) -> usize {
        let executors = [self.backend.commands, self.backend.files];
        let own = executors.iter().filter_map(|executor| executor.slots());
        own.fold(self.slots.count(), usize::max)
    }

    fn answer(&self, id: StepId, inputs: &[StepResult]) -> Answer<E> {
        let mut started = Instant::now();
        let done = self.run(id, inputs, &mut started);
        Answer { id, done, started }
    }
}

fn planned(graph: &Graph, id: StepId) -> PlannedStep {
    let step = graph.step(id);
    let inputs = graph.inputs(id).iter();
    PlannedStep {
        step: id.into(),
        name: step.name.to_string(),
        location: step.location.clone(),
        inputs: inputs.map(|input| (*input).into()).collect(),
        instruction: step.name.number > 0,
    }
}

/// What came of one step.
struct Answer<E> {
    id: StepId,
    done: Result<Done, E>,
    /// When it was started: after it waited for a slot or another build.
    started: Instant,
}

/// What has come of the steps so far.
struct Progress<'a, E> {
    solver: &'a Solver<'a, E>,
    solution: Solution,
    failures: Vec<E>,
}

impl<'a, E: StepError> Progress<'a, E> {
    fn new(solver: &'a Solver<'a, E>) -> Self {
        Self {
            solver,
            solution: Solution::default(),
            failures: Vec::new(),
        }
    }

    /// Whether more steps are to be begun.
    fn goes_on(&self) -> bool {
        self.failures.is_empty() || self.solver.options.keep_going
    }

    fn inputs_of(&self, id: StepId) -> Vec<StepResult> {
        let inputs = self.solver.graph.inputs(id).iter();
        let results = &self.solution.results;
        inputs
            .filter_map(|input| results.get(input).cloned())
            .collect()
    }

    fn take(&mut self, schedule: &mut Schedule, answer: Answer<E>) {
        let Answer { id, done, started } = answer;
        match done {
            Ok(done) => {
                tell(self.solver.events, id, started, Ended::of(&done));
                self.note(id, done);
                schedule.done(self.solver.graph, id);
            }
            Err(error) => self.fail(id, error, started),
        }
    }

    fn note(&mut self, id: StepId, done: Done) {
        let solution = &mut self.solution;
        if let Some(filed) = done.filed {
            let step = self.solver.graph.step(id);
            let shared = self.solver.backend.shared;
            shared.offer(id, step, &filed, &done.parts);
            solution.keys.insert(id, filed.key);
            solution.parts.insert(id, done.parts);
            if filed.created > 0 {
                solution.created.insert(id, filed.created);
            }
            let written = filed.stdout.map(|text| (id, text));
            solution.outputs.extend(written);
        }
        let revision = done.revision.map(|revision| (id, revision));
        solution.revisions.extend(revision);
        self.solver.known.note(id, &done.result);
        solution.results.insert(id, done.result);
    }

    fn fail(&mut self, id: StepId, error: E, started: Instant) {
        let stopped = error.is_cancelled() || !self.goes_on();
        let outcome = match stopped || error.begins_again() {
            true => Outcome::Cancelled,
            false => Outcome::Failed,
        };
        tell(
            self.solver.events,
            id,
            started,
            Ended::without_result(outcome),
        );
        if !self.solver.options.keep_going {
            self.solver.cancel.cancel();
        }
        if !stopped || self.failures.is_empty() {
            self.failures.push(error);
        }
    }

    fn finish(mut self) -> Result<Solution, E> {
        match self.failures.len() {
            0 => Ok(self.solution),
            1 => Err(self.failures.remove(0)),
            _ => Err(E::several(self.failures)),
        }
    }
}
