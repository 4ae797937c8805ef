//! What a build would run, found out without running it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_graph::pattern::Matcher;
use kiln_graph::{ContextSource, Digest, Entry, ImagePath, Manifest, Node, Op, Step, StepId};
use serde::Serialize;

use crate::backend::StepError;
use crate::schedule::Schedule;
use crate::snapshot::{Directory, StepResult};
use crate::solver::Solver;

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

impl<E: StepError> Solver<'_, E> {
    /// What would run if these files of contexts were edited now. Sources are fetched if need be;
    /// no step is run.
    ///
    /// # Errors
    /// When a context can't be read, or a source not be had.
    pub fn forecast(&self, targets: &[StepId], edits: &Edits) -> Result<Vec<Forecast>, E> {
        let mut guesses: BTreeMap<StepId, Guess> = BTreeMap::new();
        let mut fates = Vec::new();
        for id in Schedule::new(self.graph, targets).steps() {
            let inputs = self.graph.inputs(id).iter();
            let inputs = inputs.map(|input| guesses.get(input).cloned());
            let inputs: Option<Vec<Guess>> = inputs.collect();
            let step = self.graph.step(id);
            let guess = match (&step.op, inputs) {
                (Op::Exec(_) | Op::Files(_), None) => {
                    fates.push(new(id));
                    None
                }
                (Op::Exec(_) | Op::Files(_), Some(inputs)) => {
                    let (forecast, guess) = self.foretell(id, step, &inputs)?;
                    fates.push(forecast);
                    guess
                }
                (Op::Context(context), _) => Some(self.with_edits(id, context, edits)?),
                (_, Some(inputs)) => Some(self.passed_on(id, &inputs)?),
                (_, None) => None,
            };
            guesses.extend(guess.map(|guess| (id, guess)));
        }
        Ok(fates)
    }

    fn foretell(
        &self,
        id: StepId,
        step: &Step,
        inputs: &[Guess],
    ) -> Result<(Forecast, Option<Guess>), E> {
        let plain: Vec<StepResult> = inputs.iter().map(|input| input.plain.clone()).collect();
        let edited: Vec<StepResult> = inputs.iter().map(|input| input.edited.clone()).collect();
        let now = self.key(step, &plain)?.key;
        let then = self.key(step, &edited)?.key;
        let Some(filed) = self.backend.store.result(&now)? else {
            return Ok((new(id), None));
        };
        let result = self.result(step, &plain, &filed)?;
        let usable = self.usable(id, step);
        let fate = match () {
            () if !usable.allows(filed.created, filed.stdout.is_some()) => Fate::Always,
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
            cost: filed.took,
        };
        Ok((forecast, Some(guess)))
    }

    /// A source, or what is put together of inputs without being run.
    fn passed_on(&self, id: StepId, inputs: &[Guess]) -> Result<Guess, E> {
        let plain: Vec<StepResult> = inputs.iter().map(|input| input.plain.clone()).collect();
        let result = self.run(id, &plain, &mut Instant::now())?.result;
        Ok(Guess {
            edited: result.clone(),
            plain: result,
            stale: inputs.iter().any(|input| input.stale),
        })
    }

    fn with_edits(&self, id: StepId, context: &ContextSource, edits: &Edits) -> Result<Guess, E> {
        let plain = self.run(id, &[], &mut Instant::now())?.result;
        let edited = match (&plain, edits.get(&context.name)) {
            (StepResult::Directory(directory), Some(paths)) => {
                StepResult::Directory(Arc::new(edited(directory, context, paths)))
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

/// A directory in which files have other content; a path that isn't there is a new file.
fn edited(
    directory: &Directory,
    context: &ContextSource,
    paths: &BTreeSet<ImagePath>,
) -> Directory {
    let matcher = Matcher::new(&context.ignore).unwrap_or_default();
    let mut entries = directory.manifest.entries().to_vec();
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
    Directory {
        root: directory.root.clone(),
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
