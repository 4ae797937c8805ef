//! Runs the steps of a build, each on a thread of its own as soon as its inputs are there.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use kiln_cache::Session;
use kiln_graph::{BlobDigest, Build, CacheMount, Graph, StepId, StepKey, TreeId};

use kiln_share::RemotePart;

use crate::engine::{Engine, Request};
use crate::export::shared_cache::Exports;
use crate::solve::schedule::Schedule;
use crate::solve::snapshot::{LayerRef, StepResult};
use crate::solve::step::{Done, Shared};
use crate::{EngineError, Event, Outcome, PlannedStep};

/// A solved build: the result of every step that was needed.
#[derive(Debug)]
pub struct Solved {
    pub(crate) engine: Engine,
    pub(crate) build: Build,
    volume_keys: BTreeMap<String, String>,
    pub(crate) results: BTreeMap<StepId, StepResult>,
    /// What the results of keyed steps are filed under.
    pub(crate) keys: BTreeMap<StepId, StepKey>,
    /// When the results of keyed steps were made, in seconds since 1970, where that is known.
    pub(crate) created: BTreeMap<StepId, u64>,
    /// The parts of results that the steps' keys are made of.
    pub(crate) parts: BTreeMap<StepId, Vec<RemotePart>>,
    /// What steps wrote that the request wanted to know.
    pub(crate) outputs: BTreeMap<StepId, String>,
    /// What the branches and tags of git sources turned out to be.
    pub(crate) commits: BTreeMap<StepId, String>,
    /// When the build began.
    pub(crate) started: kiln_graph::Timestamp,
    pub(crate) exports: Exports,
    /// Keeps what was used from being collected while outputs are made.
    _session: Session,
}

impl Solved {
    /// The name that a cache volume has with what it is tied to.
    #[must_use]
    pub fn volume_name(&self, cache: &CacheMount) -> String {
        let key = self.volume_keys.get(&cache.id).map(String::as_str);
        crate::keyed_volume(&cache.volume(), key)
    }

    /// What a step of [`Request::outputs`] wrote to its standard output, with secrets masked.
    #[must_use]
    pub fn written(&self, step: StepId) -> Option<&str> {
        self.outputs.get(&step).map(String::as_str)
    }

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
            [LayerRef::Tree(id)] => match self.engine.store.tree(id)? {
                Some(tree) => Ok(tree.fs()),
                None => Err(no_folder()),
            },
            [] => Ok(self.engine.store.empty_tree()?.fs()),
            _ => Err(no_folder()),
        }
    }

    /// The latest modification time among the files of a step whose result is one tree, in seconds
    /// since 1970; nothing when it has none.
    ///
    /// # Errors
    /// When the step's result is more than one tree, or is gone.
    pub fn latest_time(&self, step: StepId) -> Result<Option<i64>, EngineError> {
        let snapshot = self.snapshot(step)?;
        let [LayerRef::Tree(id)] = snapshot.layers() else {
            return Err(no_folder());
        };
        let tree = self.engine.store.tree(id)?.ok_or_else(no_folder)?;
        let manifest = tree.manifest()?;
        let times = manifest.entries().iter().map(|entry| entry.mtime.seconds);
        Ok(times.max().filter(|seconds| *seconds > 0))
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
        let started = crate::execute::run::now();
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
            volume_keys: request.volume_keys,
            build: request.build,
            results: answers.results,
            keys: answers.keys,
            created: answers.created,
            parts: answers.parts,
            outputs: answers.outputs,
            commits: answers.commits,
            started,
            exports: answers.exports,
            _session: session,
        })
    }

    /// Solves some steps of a build.
    pub(crate) fn solve_steps(
        &self,
        request: &Request,
        targets: &[StepId],
    ) -> Result<(Answers, Session), EngineError> {
        crate::solve::entitlement::check(&request.build.graph, targets, &request.allowed)?;
        crate::execute::run::leak::check_configurations(request)?;
        let session = self.store.session()?;
        let mut schedule = Schedule::new(&request.build.graph, targets);
        request.events.event(Event::Planned {
            steps: plan(&request.build.graph, &schedule),
        });
        let shared = Shared::new(self, request)?;
        let mut answers = run_all(&shared, &mut schedule)?;
        // Steps may have been given secrets that nobody had asked for before.
        crate::execute::run::leak::check_configurations(request)?;
        answers.commits = shared.commits.into_inner().unwrap_or_default();
        answers.exports = shared.exports;
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
    created: BTreeMap<StepId, u64>,
    parts: BTreeMap<StepId, Vec<RemotePart>>,
    outputs: BTreeMap<StepId, String>,
    commits: BTreeMap<StepId, String>,
    exports: Exports,
}

type Answer = (StepId, Result<Done, EngineError>, Instant);

fn run_all(shared: &Shared<'_>, schedule: &mut Schedule) -> Result<Answers, EngineError> {
    let graph = &shared.request.build.graph;
    let mut progress = Progress::default();
    std::thread::scope(|scope| {
        let (send, ended) = channel::<Answer>();
        let mut running = 0;
        let most = shared.slots.count() * 2;
        loop {
            let ready = match progress.goes_on(shared) {
                true => schedule.take_ready(most - running),
                false => Vec::new(),
            };
            // With nothing else to do meanwhile, a thread would only cost time.
            if let ([only], 0) = (&ready[..], running) {
                let inputs = inputs_of(graph, *only, &progress.answers.results);
                let started = Instant::now();
                progress.take(
                    shared,
                    schedule,
                    (*only, shared.run(*only, &inputs), started),
                );
                continue;
            }
            for id in ready {
                running += 1;
                let inputs = inputs_of(graph, id, &progress.answers.results);
                let send: Sender<Answer> = send.clone();
                scope.spawn(move || {
                    let started = Instant::now();
                    _ = send.send((id, shared.run(id, &inputs), started));
                });
            }
            if running == 0 {
                break;
            }
            let Ok(answer) = ended.recv() else { break };
            running -= 1;
            progress.take(shared, schedule, answer);
        }
    });
    progress.finish()
}

/// What has come of the steps so far.
#[derive(Default)]
struct Progress {
    answers: Answers,
    failures: Vec<EngineError>,
}

impl Progress {
    /// Whether more steps are to be begun.
    fn goes_on(&self, shared: &Shared<'_>) -> bool {
        self.failures.is_empty() || shared.request.keep_going
    }

    fn take(&mut self, shared: &Shared<'_>, schedule: &mut Schedule, answer: Answer) {
        let (id, answer, started) = answer;
        match answer {
            Ok(done) => {
                let key = done.filed.as_ref().map(|filed| filed.key);
                finished(shared, id, started, Ended::of(&done));
                self.answers.keys.extend(key.map(|key| (id, key)));
                if let Some(filed) = done.filed {
                    if filed.created > 0 {
                        self.answers.created.insert(id, filed.created);
                    }
                    let written = filed.stdout.clone().map(|text| (id, text));
                    self.answers.outputs.extend(written);
                    let parts = shared.parts_of(id);
                    let name = &shared.graph().step(id).name;
                    shared.exports.offer(id, name, &filed, &parts);
                    self.answers.parts.insert(id, parts);
                }
                self.answers.results.insert(id, done.result);
                schedule.done(&shared.request.build.graph, id);
            }
            Err(error) => self.fail(shared, id, error, started),
        }
    }

    fn fail(&mut self, shared: &Shared<'_>, id: StepId, error: EngineError, started: Instant) {
        let stopped = matches!(error, EngineError::Cancelled) || !self.goes_on(shared);
        let outcome = match stopped {
            true => Outcome::Cancelled,
            false => Outcome::Failed,
        };
        finished(shared, id, started, Ended::without_result(outcome));
        if !shared.request.keep_going {
            shared.cancel.cancel();
        }
        if !stopped || self.failures.is_empty() {
            self.failures.push(error);
        }
    }

    fn finish(mut self) -> Result<Answers, EngineError> {
        match self.failures.len() {
            0 => Ok(self.answers),
            1 => Err(self.failures.remove(0)),
            _ => Err(EngineError::Several(self.failures)),
        }
    }
}

fn inputs_of(graph: &Graph, id: StepId, results: &BTreeMap<StepId, StepResult>) -> Vec<StepResult> {
    graph
        .inputs(id)
        .iter()
        .filter_map(|input| results.get(input).cloned())
        .collect()
}

/// How a step ended, and what it has in the store.
struct Ended {
    outcome: Outcome,
    key: Option<StepKey>,
    trees: Vec<TreeId>,
    layers: Vec<BlobDigest>,
}

impl Ended {
    fn without_result(outcome: Outcome) -> Self {
        Self {
            outcome,
            key: None,
            trees: Vec::new(),
            layers: Vec::new(),
        }
    }

    fn of(done: &Done) -> Self {
        let own = match (&done.filed, &done.result) {
            (Some(filed), _) => &filed.added[..],
            (None, StepResult::Snapshot(snapshot)) => snapshot.layers(),
            (None, StepResult::Folder(_)) => &[],
        };
        let mut ended = Self::without_result(done.outcome);
        ended.key = done.filed.as_ref().map(|filed| filed.key);
        for layer in own {
            match layer {
                LayerRef::Tree(id) => ended.trees.push(*id),
                LayerRef::Image { layer, .. } => ended.layers.push(layer.diff_id),
                LayerRef::Distant(distant) => ended.trees.push(distant.tree.tree),
            }
        }
        ended
    }
}

fn finished(shared: &Shared<'_>, id: StepId, started: Instant, ended: Ended) {
    let duration = shared.begun(id).unwrap_or(started).elapsed();
    shared.request.events.event(Event::Finished {
        step: id.into(),
        outcome: ended.outcome,
        duration,
        key: ended.key,
        trees: ended.trees,
        layers: ended.layers,
    });
}
