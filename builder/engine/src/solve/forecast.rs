//! What a build would run, found out without running it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kiln_graph::pattern::Matcher;
use kiln_graph::{ContextSource, Digest, Entry, ImagePath, Manifest, Node, Op, Step, StepId};
use serde::Serialize;

use crate::EngineError;
use crate::engine::{Engine, Request};
use crate::solve::key;
use crate::solve::schedule::Schedule;
use crate::solve::snapshot::{Folder, StepResult};
use crate::solve::step::Shared;

/// What would become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its result is there, and stays good.
    Kept,
    /// It reads something that was edited.
    Edited,
    /// A step that it is made from runs: it runs too, unless that gives what it gave before.
    After,
    /// It is run in every build.
    Always,
    /// The store has no result of it.
    New,
}

/// A step, and what would become of it.
#[derive(Clone, Copy, Debug)]
pub struct Forecast {
    /// Which.
    pub step: StepId,
    /// What would become of it.
    pub fate: Fate,
    /// How long it took the last time; nothing when it never ran.
    pub cost: Duration,
}

/// Edited files, by the context's name.
pub type Edits = BTreeMap<String, BTreeSet<ImagePath>>;

/// What is known of a step's result.
#[derive(Clone)]
struct Guess {
    /// The result as it is, or was the last time.
    plain: StepResult,
    /// The same after the edits.
    edited: StepResult,
    /// Whether it is another one if a step before it gives something else.
    stale: bool,
}

impl Engine {
    /// What would run if these files of contexts were edited now. Base images are fetched if need
    /// be; nothing is run.
    ///
    /// # Errors
    /// When a context can't be read, or a source not be had.
    pub fn forecast(&self, request: &Request, edits: &Edits) -> Result<Vec<Forecast>, EngineError> {
        let _session = self.store.session()?;
        let graph = &request.build.graph;
        let targets: Vec<StepId> = request.build.targets.iter().map(|t| t.root).collect();
        let shared = Shared::new(self, request)?;
        let mut guesses: BTreeMap<StepId, Guess> = BTreeMap::new();
        let mut fates = Vec::new();
        for id in Schedule::new(graph, &targets).steps() {
            let inputs = graph
                .inputs(id)
                .iter()
                .map(|input| guesses.get(input).cloned());
            let inputs: Option<Vec<Guess>> = inputs.collect();
            let step = graph.step(id);
            let guess = match (&step.op, inputs) {
                (Op::Exec(_) | Op::Files(_), None) => {
                    fates.push(new(id));
                    None
                }
                (Op::Exec(_) | Op::Files(_), Some(inputs)) => {
                    let (forecast, guess) = shared.foretell(id, step, &inputs)?;
                    fates.push(forecast);
                    guess
                }
                (Op::Context(context), _) => Some(shared.with_edits(id, context, edits)?),
                (_, Some(inputs)) => Some(shared.passed_on(id, &inputs)?),
                (_, None) => None,
            };
            guesses.extend(guess.map(|guess| (id, guess)));
        }
        Ok(fates)
    }
}

impl Shared<'_> {
    fn foretell(
        &self,
        id: StepId,
        step: &Step,
        inputs: &[Guess],
    ) -> Result<(Forecast, Option<Guess>), EngineError> {
        let plain: Vec<StepResult> = inputs.iter().map(|input| input.plain.clone()).collect();
        let edited: Vec<StepResult> = inputs.iter().map(|input| input.edited.clone()).collect();
        let now = key::of(step, &key::parts(self, id, &plain)?);
        let then = key::of(step, &key::parts(self, id, &edited)?);
        let Some(record) = self.engine.store.record(&now)? else {
            return Ok((new(id), None));
        };
        let result = self.recorded(step, &plain, &record)?.result;
        let fresh = !self
            .usable(id, step)
            .allows(record.created, record.stdout.is_some());
        let fate = match () {
            () if fresh => Fate::Always,
            () if now != then => Fate::Edited,
            () if inputs.iter().any(|input| input.stale) => Fate::After,
            () => Fate::Kept,
        };
        let guess = Guess {
            edited: result.clone(),
            plain: result,
            stale: fate != Fate::Kept,
        };
        let forecast = Forecast {
            step: id,
            fate,
            cost: record.duration,
        };
        Ok((forecast, Some(guess)))
    }

    /// A source, or what is put together of inputs without being run.
    fn passed_on(&self, id: StepId, inputs: &[Guess]) -> Result<Guess, EngineError> {
        let plain: Vec<StepResult> = inputs.iter().map(|input| input.plain.clone()).collect();
        let result = self.run(id, &plain)?.result;
        Ok(Guess {
            edited: result.clone(),
            plain: result,
            stale: inputs.iter().any(|input| input.stale),
        })
    }

    fn with_edits(
        &self,
        id: StepId,
        context: &ContextSource,
        edits: &Edits,
    ) -> Result<Guess, EngineError> {
        let plain = self.run(id, &[])?.result;
        let edited = match (&plain, edits.get(&context.name)) {
            (StepResult::Folder(folder), Some(paths)) => {
                StepResult::Folder(Arc::new(edited(folder, context, paths)))
            }
            _ => plain.clone(),
        };
        Ok(Guess {
            plain,
            edited,
            stale: false,
        })
    }
}

fn new(step: StepId) -> Forecast {
    Forecast {
        step,
        fate: Fate::New,
        cost: Duration::ZERO,
    }
}

/// A folder in which files have other content; a path that isn't there is a new file.
fn edited(folder: &Folder, context: &ContextSource, paths: &BTreeSet<ImagePath>) -> Folder {
    let matcher = Matcher::new(&context.ignore).unwrap_or_default();
    let mut entries = folder.manifest.entries().to_vec();
    for path in paths {
        let below = entries
            .iter_mut()
            .filter(|entry| entry.path.starts_with(path));
        let mut met = false;
        for entry in below {
            met = true;
            if let Node::File { digest, .. } = &mut entry.node {
                *digest = Digest::of(digest.to_string().as_bytes());
            }
        }
        if !met && !matcher.excludes(path.relative_bytes()) {
            entries.push(new_file(path));
        }
    }
    Folder {
        root: folder.root.clone(),
        manifest: Arc::new(Manifest::new(entries)),
    }
}

fn new_file(path: &ImagePath) -> Entry {
    Entry {
        mode: 0o644,
        node: Node::File {
            size: 0,
            digest: Digest::of(b"new"),
        },
        ..Entry::directory(path.clone())
    }
}
