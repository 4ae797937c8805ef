//! Steps that bring file operations about.

use std::sync::Arc;

use kiln_cache::Tree;
use kiln_graph::{Digest, FileAction, Files, Op, Step, TreeId};

use crate::EngineError;
use crate::execute::files::{Surroundings, apply};
use crate::execute::run::now;
use crate::execute::unchanged::without_unchanged;
use crate::execute::view::{Layer, View};
use crate::solve::snapshot::StepResult;
use crate::solve::step::Shared;

impl Shared<'_> {
    /// Carries file operations out and stores what they changed.
    pub(crate) fn apply_files(
        &self,
        step: &Step,
        files: &Files,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        let base = match files.base {
            Some(input) => self.view(&self.as_snapshot(&inputs[input.index()])?)?,
            None => Arc::new(View::default()),
        };
        let mut views = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            let is_base = files.base.is_some_and(|base| base.index() == number);
            views.push(if is_base {
                base.clone()
            } else {
                self.view(input)?
            });
        }
        let staging = self.engine.store.staging()?;
        let around = Surroundings {
            base: &base,
            inputs: &views,
            folder: staging.root(),
            xattrs: self.engine.store.xattrs(),
            give_away: self.engine.gives_away(),
            previous: self.previous_copy(step)?,
            now: now(),
            store: self.engine.store.root(),
        };
        let applied = apply(files, &around).map_err(|source| EngineError::Files {
            location: step.location.clone(),
            source,
        })?;
        drop(around);
        let manifest = without_unchanged(applied.manifest, &base, staging.root());
        Ok(self.engine.store.commit(staging, manifest)?)
    }

    fn as_snapshot(&self, result: &StepResult) -> Result<StepResult, EngineError> {
        Ok(StepResult::Snapshot(self.snapshot(result)?))
    }

    /// The last result of the same instruction, whose unchanged files can be shared.
    fn previous_copy(&self, step: &Step) -> Result<Option<Layer>, EngineError> {
        let Some(name) = copy_name(step) else {
            return Ok(None);
        };
        let Some(id) = self.engine.store.memo::<TreeId>("copy", &name)? else {
            return Ok(None);
        };
        let Some(tree) = self.engine.store.tree(&id)? else {
            return Ok(None);
        };
        Ok(Some(Layer {
            manifest: tree.manifest()?,
            root: tree.root(),
        }))
    }

    pub(crate) fn remember_copy(&self, step: &Step, tree: &Tree) -> Result<(), EngineError> {
        if let Some(name) = copy_name(step) {
            self.engine.store.put_memo("copy", &name, &tree.id())?;
        }
        Ok(())
    }
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
