//! One step: its key, its record, or its execution.

use std::borrow::Cow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kiln_graph::{Input, Op, Step, StepId, StepKey};

use crate::backend::{Executor, Filed, Job, Origin, Part, StepError};
use crate::done::Done;
use crate::event::{Event, Outcome};
use crate::key::{self, Key};
use crate::snapshot::{Snapshot, StepResult};
use crate::solver::Solver;
use crate::usable::Usable;

impl<E: StepError> Solver<'_, E> {
    /// Runs a step, or finds what it gave before. `started` becomes the time from which on it is
    /// run.
    pub(crate) fn run(
        &self,
        id: StepId,
        inputs: &[StepResult],
        started: &mut Instant,
    ) -> Result<Done, E> {
        if self.cancel.is_cancelled() {
            return Err(E::cancelled());
        }
        let step = self.graph.step(id);
        match &step.op {
            Op::Scratch => Ok(Done::ready(StepResult::Snapshot(Snapshot::scratch()))),
            Op::Image(image) => {
                let snapshot = Snapshot::of_image(&image.layers, &image.name);
                Ok(Done::ready(StepResult::Snapshot(snapshot)))
            }
            Op::Merge { layers } => self.merge(layers, inputs),
            Op::Context(_) | Op::Http(_) | Op::Git(_) => self.source(id, step, started),
            Op::Exec(_) => {
                let executor = self.backend.commands;
                self.look_up_or_execute(executor, self.job(id, step, inputs), started)
            }
            Op::Files(_) => {
                let executor = self.backend.files;
                self.look_up_or_execute(executor, self.job(id, step, inputs), started)
            }
        }
    }

    fn job<'a>(&'a self, id: StepId, step: &'a Step, inputs: &'a [StepResult]) -> Job<'a> {
        Job {
            id,
            definition: self.graph.definition(id),
            step,
            inputs,
            keep_output: self.options.outputs.contains(&id),
            ahead: Some(self),
            events: self.events,
            cancel: &self.cancel,
        }
    }

    fn merge(&self, layers: &[Input], inputs: &[StepResult]) -> Result<Done, E> {
        let mut all = Vec::new();
        for input in layers {
            let snapshot = self.snapshot(&inputs[input.index()])?;
            all.extend(snapshot.layers().iter().cloned());
        }
        let merged = Snapshot::new(all);
        Ok(Done::ready(StepResult::Snapshot(merged)))
    }

    fn source(&self, id: StepId, step: &Step, started: &mut Instant) -> Result<Done, E> {
        self.start(id, started);
        let resolved = self.backend.sources.resolve(&self.job(id, step, &[]))?;
        Ok(Done {
            outcome: resolved.outcome,
            revision: resolved.revision,
            ..Done::ready(resolved.result)
        })
    }

    fn look_up_or_execute(
        &self,
        executor: &dyn Executor<E>,
        job: Job<'_>,
        started: &mut Instant,
    ) -> Result<Done, E> {
        let key = self.key(job.step, job.inputs)?;
        let usable = self.usable(job.id, job.step);
        if let Some(filed) = self.stored(&key.key, usable)? {
            return self.done(job, Outcome::Cached, filed, key.parts);
        }
        let stop = || self.cancel.is_cancelled();
        let _alone = self.backend.store.lock(&key.key, &stop)?;
        let found = match self.stored(&key.key, usable)? {
            Some(filed) => Some(filed),
            None => self.shared(&key.key, usable),
        };
        if let Some(filed) = found {
            return self.done(job, Outcome::Cached, filed, key.parts);
        }
        let _slot = executor.slots().is_none().then(|| self.slots.take());
        if self.cancel.is_cancelled() {
            return Err(E::cancelled());
        }
        self.execute(executor, job, key, started)
    }

    fn execute(
        &self,
        executor: &dyn Executor<E>,
        job: Job<'_>,
        key: Key,
        started: &mut Instant,
    ) -> Result<Done, E> {
        executor.prepare(&job)?;
        self.start(job.id, started);
        let executed = executor.execute(&job)?;
        let step = self.settled(job.step);
        let filed = Filed {
            key: key.key,
            added: vec![executed.tree],
            took: executed.took.unwrap_or_else(|| started.elapsed()),
            created: now(),
            stdout: executed.stdout,
        };
        let origin = Origin {
            step: &step,
            definition: job.definition,
            inputs: key.inputs,
        };
        self.backend.store.file(&filed, origin)?;
        self.done(job, Outcome::Ran, filed, key.parts)
    }

    fn start(&self, id: StepId, started: &mut Instant) {
        *started = Instant::now();
        self.events.event(Event::Started { step: id.into() });
    }

    pub(crate) fn key(&self, step: &Step, inputs: &[StepResult]) -> Result<Key, E> {
        key::of(self.backend.contents, &self.settled(step), inputs)
    }

    /// A step with the network that it gets: what it can reach decides what comes of it.
    fn settled<'s>(&self, step: &'s Step) -> Cow<'s, Step> {
        let Op::Exec(exec) = &step.op else {
            return Cow::Borrowed(step);
        };
        let network = exec.network.within(self.options.network);
        if network == exec.network {
            return Cow::Borrowed(step);
        }
        let mut step = step.clone();
        if let Op::Exec(exec) = &mut step.op {
            exec.network = network;
        }
        Cow::Owned(step)
    }

    /// Which stored results the author and the user want a step to use.
    pub(crate) fn usable(&self, id: StepId, step: &Step) -> Usable {
        Usable::of(self.options, id, step, now())
    }

    fn stored(&self, key: &StepKey, usable: Usable) -> Result<Option<Filed>, E> {
        if usable.is_none() {
            return Ok(None);
        }
        let filed = self.backend.store.result(key)?;
        Ok(filed.filter(|filed| usable.allows(filed.created, filed.stdout.is_some())))
    }

    fn shared(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        match usable.is_none() {
            true => None,
            false => self.backend.shared.find(key, usable),
        }
    }

    fn done(
        &self,
        job: Job<'_>,
        outcome: Outcome,
        filed: Filed,
        parts: Vec<Part>,
    ) -> Result<Done, E> {
        let result = self.result(job.step, job.inputs, &filed)?;
        Ok(Done {
            result,
            outcome,
            filed: Some(filed),
            parts,
            revision: None,
        })
    }

    /// A step's result: what it is built on, and what it adds.
    pub(crate) fn result(
        &self,
        step: &Step,
        inputs: &[StepResult],
        filed: &Filed,
    ) -> Result<StepResult, E> {
        let base = match step.op.base() {
            Some(base) => self.snapshot(&inputs[base.index()])?,
            None => Snapshot::scratch(),
        };
        Ok(StepResult::Snapshot(base.with(&filed.added)))
    }

    fn snapshot(&self, result: &StepResult) -> Result<Snapshot, E> {
        key::snapshot_of(self.backend.contents, result)
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
