//! Runs the steps of a build, each on a thread of its own as soon as its inputs are there.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use kiln_cache::Session;
use kiln_graph::{Build, Graph, StepId, StepKey};

use crate::engine::{Engine, Request};
use crate::schedule::Schedule;
use crate::snapshot::StepResult;
use crate::step::{Done, Shared};
use crate::{EngineError, Event, Outcome, PlannedStep};

/// A solved build: the result of every step that was needed.
#[derive(Debug)]
pub struct Solved {
    pub(crate) engine: Engine,
    pub(crate) build: Build,
    pub(crate) results: BTreeMap<StepId, StepResult>,
    /// What the results of keyed steps are filed under.
    pub(crate) keys: BTreeMap<StepId, StepKey>,
    /// Keeps what was used from being collected while outputs are made.
    _session: Session,
}

impl Solved {
    /// The build that was solved.
    #[must_use]
    pub fn build(&self) -> &Build {
        &self.build
    }

    /// The way to fetch and send images that the build was solved with.
    #[must_use]
    pub fn client(&self) -> &kiln_image::Client {
        &self.engine.client
    }

    /// The folder that holds the files of a step whose result is one tree: a source, or files put
    /// together from nothing. Nobody may write there; it stays as long as `self` does.
    ///
    /// # Errors
    /// When the step's result is more than one tree, or is gone.
    pub fn folder(&self, step: StepId) -> Result<std::path::PathBuf, EngineError> {
        let snapshot = self.snapshot(step)?;
        match snapshot.layers() {
            [crate::snapshot::LayerRef::Tree(id)] => match self.engine.store.tree(id)? {
                Some(tree) => Ok(tree.fs()),
                None => Err(no_folder()),
            },
            [] => Ok(self.engine.store.empty_tree()?.fs()),
            _ => Err(no_folder()),
        }
    }

    /// A folder of the store for a file that is needed for a moment; the caller removes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch_folder(&self) -> Result<std::path::PathBuf, EngineError> {
        Ok(self.engine.store.scratch_folder()?)
    }
}

fn no_folder() -> EngineError {
    EngineError::Missing {
        message: "the step's result is not one folder of the store".to_owned(),
        location: None,
    }
}

impl Engine {
    /// Solves a build: runs what the targets need and the store doesn't have.
    ///
    /// # Errors
    /// The first failure; everything that still ran was stopped.
    pub fn solve(&self, request: Request) -> Result<Solved, EngineError> {
        let roots = request.build.targets.iter().map(|target| target.root);
        let targets: Vec<StepId> = roots.collect();
        let mut request = request;
        let (answers, session) = match self.solve_steps(&request, &targets) {
            // A remote that turns out to be damaged costs time, never the build.
            Err(error @ EngineError::RemoteCache { .. }) if !request.cache_from.is_empty() => {
                let message = format!("{error}; building without it");
                request.events.event(Event::Warning { message });
                request.cache_from.clear();
                self.solve_steps(&request, &targets)?
            }
            other => other?,
        };
        Ok(Solved {
            engine: self.clone(),
            build: request.build,
            results: answers.results,
            keys: answers.keys,
            _session: session,
        })
    }

    /// Solves some steps of a build.
    pub(crate) fn solve_steps(
        &self,
        request: &Request,
        targets: &[StepId],
    ) -> Result<(Answers, Session), EngineError> {
        crate::leak::check_configurations(request)?;
        let session = self.store.session()?;
        let mut schedule = Schedule::new(&request.build.graph, targets);
        request.events.event(Event::Planned {
            steps: plan(&request.build.graph, &schedule),
        });
        let shared = Shared::new(self, request)?;
        let answers = run_all(&shared, &mut schedule)?;
        self.store.settle()?;
        Ok((answers, session))
    }
}

fn plan(graph: &Graph, schedule: &Schedule) -> Vec<PlannedStep> {
    let one = |id: StepId| {
        let step = graph.step(id);
        PlannedStep {
            step: id.into(),
            name: step.name.to_string(),
            location: step.location.clone(),
            inputs: graph
                .inputs(id)
                .iter()
                .map(|input| (*input).into())
                .collect(),
            instruction: step.name.number > 0,
        }
    };
    schedule.steps().map(one).collect()
}

/// What came of the steps.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) results: BTreeMap<StepId, StepResult>,
    pub(crate) keys: BTreeMap<StepId, StepKey>,
}

type Answer = (StepId, Result<Done, EngineError>, Instant);

fn run_all(shared: &Shared<'_>, schedule: &mut Schedule) -> Result<Answers, EngineError> {
    let graph = &shared.request.build.graph;
    let mut answers = Answers::default();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let (send, finished_steps) = channel::<Answer>();
        let mut running = 0;
        loop {
            if failures.is_empty() || shared.request.keep_going {
                for id in schedule.take_ready() {
                    running += 1;
                    let inputs = inputs_of(graph, id, &answers.results);
                    let send: Sender<Answer> = send.clone();
                    scope.spawn(move || {
                        let started = Instant::now();
                        _ = send.send((id, shared.run(id, &inputs), started));
                    });
                }
            }
            if running == 0 {
                break;
            }
            let Ok((id, answer, started)) = finished_steps.recv() else {
                break;
            };
            running -= 1;
            match answer {
                Ok(done) => {
                    finished(shared, id, done.outcome, started, done.key);
                    answers.keys.extend(done.key.map(|key| (id, key)));
                    answers.results.insert(id, done.result);
                    schedule.done(graph, id);
                }
                Err(error) => {
                    let stopped = matches!(error, EngineError::Cancelled)
                        || (!failures.is_empty() && !shared.request.keep_going);
                    let outcome = if stopped {
                        Outcome::Cancelled
                    } else {
                        Outcome::Failed
                    };
                    finished(shared, id, outcome, started, None);
                    if !shared.request.keep_going {
                        shared.cancel.cancel();
                    }
                    if !stopped || failures.is_empty() {
                        failures.push(error);
                    }
                }
            }
        }
    });
    match failures.len() {
        0 => Ok(answers),
        1 => Err(failures.remove(0)),
        _ => Err(EngineError::Several(failures)),
    }
}

fn inputs_of(graph: &Graph, id: StepId, results: &BTreeMap<StepId, StepResult>) -> Vec<StepResult> {
    graph
        .inputs(id)
        .iter()
        .filter_map(|input| results.get(input).cloned())
        .collect()
}

fn finished(
    shared: &Shared<'_>,
    id: StepId,
    outcome: Outcome,
    started: Instant,
    key: Option<StepKey>,
) {
    let duration = started.elapsed();
    shared.request.events.event(Event::Finished {
        step: id.into(),
        outcome,
        duration,
        key,
    });
}
