//! Steps that bring file operations about.

use std::sync::Arc;

use kiln_cache::{Store, Tree};
use kiln_graph::{Digest, FileAction, Files, Op, Step};
use kiln_solve::{Executed, Executor, Job, StepResult};

use super::{Surroundings, apply};
use crate::EngineError;
use crate::clock::now;
use crate::snapshotter::Snapshotter;
use crate::unchanged::without_unchanged;
use crate::view::{Layer, View, layer_of};

/// Carries file operations out.
#[derive(Debug)]
pub struct FileExecutor<'a>(pub &'a Snapshotter);

impl Executor<EngineError> for FileExecutor<'_> {
    fn prepare(&self, job: &Job<'_>) -> Result<(), EngineError> {
        self.0.bring_inputs(job.inputs, job.events)
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        let Op::Files(files) = &job.step.op else {
            let message = format!("{} is no file operation", job.step.name);
            return Err(EngineError::Defect(message));
        };
        let tree = self.apply(job, files)?;
        if let Some(name) = copy_name(job.step) {
            self.0.store.memos().put("copy", &name, &tree.id())?;
        }
        Ok(Executed {
            tree: tree.id(),
            stdout: None,
            took: None,
        })
    }
}

impl FileExecutor<'_> {
    fn apply(&self, job: &Job<'_>, files: &Files) -> Result<Tree, EngineError> {
        let views = self.views(job, files)?;
        let base = match files.base {
            Some(base) => views[base.index()].clone(),
            None => Arc::new(View::default()),
        };
        let store = &self.0.store;
        let staging = store.staging()?;
        let around = Surroundings {
            base: &base,
            inputs: &views,
            directory: staging.root(),
            xattrs: store.xattrs(),
            give_away: self.0.gives_away,
            previous: previous_copy(store, job.step)?,
            now: now(),
            store: store.root(),
        };
        let made = apply(files, &around).map_err(|source| EngineError::Files {
            location: job.step.location.clone(),
            source,
        })?;
        drop(around);
        let manifest = without_unchanged(made, &base, staging.root());
        Ok(store.trees().commit(staging, manifest)?)
    }

    /// The files of the step's inputs; what it changes is a tree of the store.
    fn views(&self, job: &Job<'_>, files: &Files) -> Result<Vec<Arc<View>>, EngineError> {
        let view = |(number, input): (usize, &StepResult)| {
            if files.base.is_some_and(|base| base.index() == number) {
                let base = StepResult::Snapshot(self.0.snapshot(input)?);
                return self.0.view(&base, job.events);
            }
            self.0.view(input, job.events)
        };
        job.inputs.iter().enumerate().map(view).collect()
    }
}

/// The last result of the same instruction, whose unchanged files can be shared.
fn previous_copy(store: &Store, step: &Step) -> Result<Option<Layer>, EngineError> {
    let Some(name) = copy_name(step) else {
        return Ok(None);
    };
    let tree = store.memos().tree("copy", &name)?;
    tree.as_ref().map(layer_of).transpose()
}

/// Names an instruction that copies files, whatever they contain.
fn copy_name(step: &Step) -> Option<Digest> {
    let Op::Files(files) = &step.op else {
        return None;
    };
    let copies = files
        .actions
        .iter()
        .any(|action| matches!(action, FileAction::Copy(_)));
    copies.then(|| {
        let place = step
            .location
            .as_ref()
            .map(|at| at.file.to_string())
            .unwrap_or_default();
        Digest::of(format!("{place}\n{}", step.name.text).as_bytes())
    })
}
