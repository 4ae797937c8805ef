//! One step: its key, its record, or its execution.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kiln_cache::Record;
use kiln_graph::{
    ContentDigest, Digest, Files, Graph, ImagePath, Input, Op, Reuse, Step, StepId, StepKey, TreeId,
};

use kiln_share::RemotePart;

use crate::engine::{Engine, Request};
use crate::execute::source::context::ContextNeeds;
use crate::export::shared_cache::Exports;
use crate::solve::cancel::{Cancel, HookGuard};
use crate::solve::key;
use crate::solve::snapshot::{LayerRef, Snapshot, StepResult};
use crate::{EngineError, Event, Outcome};

/// A finished step.
pub(crate) struct Done {
    pub(crate) result: StepResult,
    pub(crate) outcome: Outcome,
    /// For steps whose results have keys.
    pub(crate) filed: Option<Filed>,
}

/// A step's own part of its result, and what it is filed under.
#[derive(Clone, Debug)]
pub(crate) struct Filed {
    pub(crate) key: StepKey,
    /// What the step adds to what it is built on.
    pub(crate) added: Vec<LayerRef>,
    /// How long the step ran, in milliseconds; 0 when it isn't known.
    pub(crate) took: u64,
    /// When it ended, in seconds since 1970; 0 when it isn't known.
    pub(crate) created: u64,
    /// What it wrote to its standard output, if that was kept.
    pub(crate) stdout: Option<String>,
}

/// Which stored results a step may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usable {
    /// Those made at this time or later, in seconds since 1970; `None`: none at all.
    since: Option<u64>,
    /// Whether what the step wrote must be known.
    with_output: bool,
}

impl Usable {
    pub(crate) fn is_none(self) -> bool {
        self.since.is_none()
    }

    /// Whether one that was made then may be used, with or without what the step wrote.
    pub(crate) fn allows(self, created: u64, output: bool) -> bool {
        let is_new = self.since.is_some_and(|since| created >= since);
        is_new && (output || !self.with_output)
    }
}

/// What all steps of a build share.
pub(crate) struct Shared<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a Request,
    /// Stops the steps: after a failure, or because the user stops the build.
    pub(crate) cancel: Cancel,
    _following: HookGuard,
    pub(crate) empty: TreeId,
    pub(crate) needs: ContextNeeds,
    pub(crate) slots: Slots,
    /// When steps were started: after they waited for a slot or another build.
    begun: Mutex<BTreeMap<StepId, Instant>>,
    pub(crate) warned: AtomicUsize,
    /// Whether overlayfs turned out not to work here.
    pub(crate) without_overlay: AtomicBool,
    pub(crate) exports: Exports,
    /// The parts of results that steps' keys are made of.
    parts: Mutex<BTreeMap<StepId, Vec<RemotePart>>>,
    /// What steps wrote that somebody wants to know.
    pub(crate) outputs: Mutex<BTreeMap<StepId, String>>,
    /// What branches and tags turned out to be.
    pub(crate) commits: Mutex<BTreeMap<StepId, String>>,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(engine: &'a Engine, request: &'a Request) -> Result<Self, EngineError> {
        let cancel = Cancel::new();
        let inner = cancel.clone();
        Ok(Self {
            engine,
            request,
            _following: request.cancel.on_cancel(move || inner.cancel()),
            cancel,
            empty: engine.store.empty_tree()?.id(),
            needs: ContextNeeds::of(&request.build.graph),
            slots: Slots::new(request.jobs.clamp(1, most_at_once())),
            begun: Mutex::default(),
            warned: AtomicUsize::new(0),
            without_overlay: AtomicBool::new(false),
            exports: Exports::start(engine, request),
            parts: Mutex::default(),
            outputs: Mutex::default(),
            commits: Mutex::default(),
        })
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.request.build.graph
    }

    pub(crate) fn started(&self, id: StepId) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(id, Instant::now());
        drop(begun);
        self.request
            .events
            .event(Event::Started { step: id.into() });
    }

    /// When a step was started, if it was.
    pub(crate) fn begun(&self, id: StepId) -> Option<Instant> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get(&id).copied()
    }

    /// Notes what a part of a result contains that a step's key is made of.
    pub(crate) fn note_part(&self, id: StepId, part: Digest, content: ContentDigest) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = parts.entry(id).or_default();
        let new = RemotePart { part, content };
        if !own.contains(&new) {
            own.push(new);
        }
    }

    /// What was noted of a step.
    pub(crate) fn parts_of(&self, id: StepId) -> Vec<RemotePart> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(&id).cloned().unwrap_or_default()
    }

    /// Warns of something once in a build.
    pub(crate) fn warn_once(&self, message: &str) {
        if self.warned.fetch_add(1, Ordering::Relaxed) == 0 {
            self.warn(message);
        }
    }

    /// Warns of something.
    pub(crate) fn warn(&self, message: &str) {
        let message = message.to_owned();
        self.request.events.event(Event::Warning { message });
    }

    /// Runs a step, or finds what it gave before.
    pub(crate) fn run(&self, id: StepId, inputs: &[StepResult]) -> Result<Done, EngineError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let step = self.graph().step(id);
        match &step.op {
            Op::Scratch => Ok(ready(StepResult::Snapshot(Snapshot::scratch()))),
            Op::Image(image) => {
                let name: Arc<str> = image.name.as_str().into();
                let layer = |layer: &kiln_graph::ImageLayer| LayerRef::Image {
                    layer: layer.clone(),
                    image: name.clone(),
                };
                let layers = image.layers.iter().map(layer).collect();
                Ok(ready(StepResult::Snapshot(Snapshot::new(
                    layers,
                    Some(self.empty),
                ))))
            }
            Op::Context(context) => {
                self.started(id);
                self.scan_context(context)
            }
            Op::Merge { layers } => self.merge(layers, inputs),
            Op::Exec(_) | Op::Files(_) => self.look_up_or_execute(id, step, inputs),
            Op::Http(source) => {
                self.started(id);
                self.http(step, &self.request.pins.http(source))
            }
            Op::Git(source) => {
                self.started(id);
                self.git(id, step, &self.request.pins.git(source))
            }
            Op::Diff { lower, upper } => self.diff(&inputs[lower.index()], &inputs[upper.index()]),
        }
    }

    fn merge(&self, layers: &[Input], inputs: &[StepResult]) -> Result<Done, EngineError> {
        let mut all = Vec::new();
        for input in layers {
            all.extend(
                self.snapshot(&inputs[input.index()])?
                    .layers()
                    .iter()
                    .cloned(),
            );
        }
        Ok(ready(StepResult::Snapshot(Snapshot::new(
            all,
            Some(self.empty),
        ))))
    }

    /// What the upper stack has over the lower one, which it must start with.
    fn diff(&self, lower: &StepResult, upper: &StepResult) -> Result<Done, EngineError> {
        let (lower, upper) = (self.snapshot(lower)?, self.snapshot(upper)?);
        let added =
            upper
                .layers()
                .strip_prefix(lower.layers())
                .ok_or_else(|| EngineError::Missing {
                    message: "a difference is asked for of trees that are not built on each other"
                        .to_owned(),
                    location: None,
                })?;
        Ok(ready(StepResult::Snapshot(Snapshot::new(
            added.to_vec(),
            Some(self.empty),
        ))))
    }

    fn look_up_or_execute(
        &self,
        id: StepId,
        step: &Step,
        inputs: &[StepResult],
    ) -> Result<Done, EngineError> {
        let parts = key::parts(self, id, inputs)?;
        let key = key::of(step, &parts);
        let usable = self.usable(id, step);
        if let Some(record) = self.usable_record(&key, usable)? {
            return self.recorded(step, inputs, &record);
        }
        let stop = || self.cancel.is_cancelled();
        let _alone = self.engine.store.lock_step(&key, &stop)?;
        if let Some(record) = self.usable_record(&key, usable)? {
            return self.recorded(step, inputs, &record);
        }
        if let Some(filed) = self.distant(&key, usable) {
            return self.done(step, inputs, filed);
        }
        let _slot = self.slots.take();
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        self.fetch_inputs(step, inputs)?;
        self.started(id);
        let began = Instant::now();
        let tree = match &step.op {
            Op::Exec(exec) => self.execute(id, step, exec, inputs)?,
            Op::Files(files) => self.apply_files(step, files, inputs)?,
            _ => return Err(EngineError::Cancelled),
        };
        let record = Record {
            key,
            output: vec![tree.id()],
            parts,
            name: step.name.to_string(),
            location: step.location.clone(),
            duration: began.elapsed(),
            created: now(),
            stdout: self.written(id),
        };
        self.engine.store.put_record(&record)?;
        self.remember_copy(step, &tree)?;
        let done = self.recorded(step, inputs, &record)?;
        Ok(Done {
            outcome: Outcome::Ran,
            ..done
        })
    }

    /// Brings the layers here that a command needs, so that fetching them isn't the step's time.
    fn fetch_inputs(&self, step: &Step, inputs: &[StepResult]) -> Result<(), EngineError> {
        if !matches!(step.op, Op::Exec(_)) {
            return Ok(());
        }
        for input in inputs {
            if let StepResult::Snapshot(snapshot) = input {
                self.engine.trees(snapshot, &*self.request.events)?;
            }
        }
        Ok(())
    }

    /// Which stored results the author and the user want a step to use.
    pub(crate) fn usable(&self, id: StepId, step: &Step) -> Usable {
        let since = match step.reuse {
            _ if self.request.any_age => Some(0),
            _ if self.request.no_cache || self.request.fresh.contains(&id) => None,
            Reuse::Always => Some(0),
            Reuse::Within(age) => Some(now().saturating_sub(age.as_secs())),
            Reuse::Never => None,
        };
        Usable {
            since,
            with_output: self.request.outputs.contains(&id),
        }
    }

    fn usable_record(&self, key: &StepKey, usable: Usable) -> Result<Option<Record>, EngineError> {
        if usable.is_none() {
            return Ok(None);
        }
        let record = self.engine.store.record(key)?;
        Ok(record.filter(|record| usable.allows(record.created, record.stdout.is_some())))
    }

    /// What a step that has just run wrote, if somebody wants to know.
    fn written(&self, id: StepId) -> Option<String> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.remove(&id)
    }

    pub(crate) fn recorded(
        &self,
        step: &Step,
        inputs: &[StepResult],
        record: &Record,
    ) -> Result<Done, EngineError> {
        let filed = Filed {
            key: record.key,
            added: record.output.iter().copied().map(LayerRef::Tree).collect(),
            took: u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
            created: record.created,
            stdout: record.stdout.clone(),
        };
        self.done(step, inputs, filed)
    }

    /// A step's result: what it is built on, and what it adds.
    fn done(&self, step: &Step, inputs: &[StepResult], filed: Filed) -> Result<Done, EngineError> {
        let base = match &step.op {
            Op::Exec(exec) => self.snapshot(&inputs[exec.root.index()])?,
            Op::Files(Files {
                base: Some(base), ..
            }) => self.snapshot(&inputs[base.index()])?,
            _ => Snapshot::scratch(),
        };
        Ok(Done {
            result: StepResult::Snapshot(base.with(&filed.added, self.empty)),
            outcome: Outcome::Cached,
            filed: Some(filed),
        })
    }

    /// A result as a root filesystem: a folder of the user's is copied into the store first.
    pub(crate) fn snapshot(&self, result: &StepResult) -> Result<Snapshot, EngineError> {
        match result {
            StepResult::Snapshot(snapshot) => Ok(snapshot.clone()),
            StepResult::Folder(folder) => {
                let tree = self.import(folder, &ImagePath::root())?;
                Ok(Snapshot::new(
                    vec![LayerRef::Tree(tree.id())],
                    Some(self.empty),
                ))
            }
        }
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn ready(result: StepResult) -> Done {
    Done {
        result,
        outcome: Outcome::Cached,
        filed: None,
    }
}

/// How many steps can run at once with the descriptors there are: each has pipes, locks and files,
/// and others wait for it with theirs.
fn most_at_once() -> usize {
    (kiln_sandbox::descriptors().saturating_sub(64) / 24).max(1)
}

/// Limits how many steps run at once.
pub(crate) struct Slots {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of the places of steps that run at once.
pub(crate) struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Self {
        Self {
            count,
            free: Mutex::new(count),
            freed: Condvar::new(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
