//! Remembers what happens in a build: an event sink in front of others.

mod redacted;
mod step_log;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kiln_cache::{BuildRecord, BuiltStep, BuiltTransfer, StepOutcome, Store};
use kiln_engine::{Event, EventSink, Outcome, StepRef};
use kiln_graph::address::redact;

use crate::StepResult;
use crate::millis::{millis, now};
use step_log::StepLog;

pub use redacted::redacted;

/// What is remembered of how a build was asked for, without credentials.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What identifies builds of the same file, context and target.
    pub subject: String,
    /// The same for people.
    pub title: String,
    /// What was asked for, in the words of whoever asked: to ask for the same again.
    pub plan: serde_json::Value,
}

/// Notes events, and passes them on.
pub struct Journal {
    store: Store,
    next: Arc<dyn EventSink>,
    began: Instant,
    state: Mutex<State>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

struct State {
    record: BuildRecord,
    /// Which place in the record a step has.
    places: BTreeMap<StepRef, usize>,
    logs: BTreeMap<StepRef, StepLog>,
    /// When what is being transferred began, in milliseconds after the build did.
    moving: BTreeMap<String, u64>,
}

impl Journal {
    /// A journal of a build that begins now, which is kept in a store. Events are passed on to `next`.
    #[must_use]
    pub fn new(store: Store, next: Arc<dyn EventSink>, about: About) -> Self {
        let began = now();
        let record = BuildRecord {
            id: crate::build_id(began),
            began,
            took: 0,
            ok: false,
            error: None,
            subject: about.subject,
            title: about.title,
            steps: Vec::new(),
            transfers: Vec::new(),
            plan: about.plan,
        };
        let state = State {
            record,
            places: BTreeMap::new(),
            logs: BTreeMap::new(),
            moving: BTreeMap::new(),
        };
        Self {
            store,
            next,
            began: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// Files the build. A build is never lost for a journal that can't be written.
    pub fn finish(&self, error: Option<String>) {
        let mut state = self.lock();
        state.record.took = millis(self.began.elapsed());
        state.record.ok = error.is_none();
        state.record.error = error.map(|error| redact(&error).into_owned());
        if let Err(error) = self.store.builds().put(&state.record) {
            let message = format!("this build is not remembered: {error}");
            self.next.event(Event::Warning { message });
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn record(&self) -> BuildRecord {
        self.lock().record.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        let mut state = self.lock();
        let now = millis(self.began.elapsed());
        match event {
            Event::Planned { steps } => state.plan(steps),
            Event::Started { step } => {
                if let Some(step) = state.step(*step) {
                    step.began = now;
                }
            }
            Event::Output { step, bytes, .. } => state.log(&self.store, *step, bytes),
            Event::Finished {
                step,
                outcome,
                duration,
                key,
                trees,
                layers,
            } => {
                state.logs.remove(step);
                if let Some(step) = state.step(*step) {
                    step.took = millis(*duration);
                    step.began = now.saturating_sub(step.took);
                    step.key = *key;
                    step.trees.clone_from(trees);
                    step.layers.clone_from(layers);
                    step.outcome = outcome_of(*outcome);
                }
            }
            Event::Used { step, cpu, memory } => {
                if let Some(step) = state.step(*step) {
                    step.cpu += millis(*cpu);
                    step.memory = step.memory.max(*memory);
                }
            }
            Event::Placed {
                step,
                place,
                reason,
                queued,
                waiting: _,
            } => {
                if let Some(step) = state.step(*step) {
                    step.place.clone_from(place);
                    step.kept_here.clone_from(reason);
                    step.queued = queued.map(millis);
                }
            }
            Event::Transfer {
                name,
                done,
                finished,
                ..
            } => state.transfer(name, *done, *finished, now),
            _ => {}
        }
    }
}

impl State {
    fn plan(&mut self, steps: &[kiln_engine::PlannedStep]) {
        self.places = steps
            .iter()
            .enumerate()
            .map(|(place, planned)| (planned.step, place))
            .collect();
        let built = |planned: &kiln_engine::PlannedStep| BuiltStep {
            name: planned.name.clone(),
            location: planned.location.clone(),
            instruction: planned.instruction,
            inputs: planned
                .inputs
                .iter()
                .filter_map(|input| self.places.get(input).copied())
                .collect(),
            outcome: StepOutcome::Waiting,
            key: None,
            trees: Vec::new(),
            layers: Vec::new(),
            began: 0,
            took: 0,
            place: None,
            kept_here: None,
            queued: None,
            log: 0,
            cpu: 0,
            memory: 0,
        };
        self.record.steps = steps.iter().map(built).collect();
    }

    fn step(&mut self, step: StepRef) -> Option<&mut BuiltStep> {
        let place = self.places.get(&step)?;
        self.record.steps.get_mut(*place)
    }

    fn transfer(&mut self, name: &str, bytes: u64, finished: bool, now: u64) {
        let began = *self.moving.entry(name.to_owned()).or_insert(now);
        if finished {
            self.moving.remove(name);
            self.record.transfers.push(BuiltTransfer {
                name: name.to_owned(),
                began,
                took: now - began,
                bytes,
            });
        }
    }

    fn log(&mut self, store: &Store, step: StepRef, bytes: &[u8]) {
        let Some(&place) = self.places.get(&step) else {
            return;
        };
        let open = || {
            let path = store.builds().step_log(&self.record.id, place).ok()?;
            StepLog::open(&path).ok()
        };
        if let std::collections::btree_map::Entry::Vacant(entry) = self.logs.entry(step)
            && let Some(log) = open()
        {
            entry.insert(log);
        }
        if let Some(log) = self.logs.get_mut(&step)
            && log.write(bytes).is_ok()
        {
            self.record.steps[place].log += bytes.len() as u64;
        }
    }
}

impl Journal {
    /// What has become of each step so far, for provenance.
    #[must_use]
    pub fn results(&self) -> BTreeMap<StepRef, StepResult> {
        let state = self.lock();
        let steps = &state.record.steps;
        let one = |(step, place): (&StepRef, &usize)| {
            let built = steps.get(*place)?;
            let outcome = match built.outcome {
                StepOutcome::Ran => Some(Outcome::Ran),
                StepOutcome::Cached => Some(Outcome::Cached),
                _ => None,
            };
            let result = StepResult {
                outcome,
                key: built.key,
                took: built.took,
            };
            Some((*step, result))
        };
        state.places.iter().filter_map(one).collect()
    }

    /// What has become of the steps so far.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<StepRef, StepOutcome> {
        let state = self.lock();
        let steps = &state.record.steps;
        let outcome = |(step, place): (&StepRef, &usize)| Some((*step, steps.get(*place)?.outcome));
        state.places.iter().filter_map(outcome).collect()
    }
}

impl EventSink for Journal {
    fn event(&self, event: Event) {
        let event = redacted(event);
        self.note(&event);
        self.next.event(event);
    }
}

fn outcome_of(outcome: Outcome) -> StepOutcome {
    match outcome {
        Outcome::Ran => StepOutcome::Ran,
        Outcome::Cached => StepOutcome::Cached,
        Outcome::Failed => StepOutcome::Failed,
        Outcome::Cancelled => StepOutcome::Cancelled,
    }
}
