//! Whether steps give the same when they are run again.

use std::collections::BTreeMap;

use kiln_graph::{Entry, ImagePath, Op, StepId};

use crate::execute::snapshotter::view_of;
use crate::export::inspect::{Difference, differences};
use crate::solve::scheduler::Solved;
use crate::solve::snapshot::Snapshot;
use crate::{EngineError, EventSink};

/// A step that gave different files when it was run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreproducible {
    /// Its name.
    pub step: String,
    /// The files.
    pub files: Vec<Difference>,
}

impl Solved {
    /// The steps whose own changes differ from those in another solution of the same build.
    ///
    /// # Errors
    /// When the trees can't be read.
    pub fn compare(
        &self,
        other: &Self,
        events: &dyn EventSink,
    ) -> Result<Vec<Unreproducible>, EngineError> {
        let mut found = Vec::new();
        for (id, step) in self.build.graph.steps() {
            if !matches!(step.op, Op::Exec(_)) || !self.results.contains_key(&id) {
                continue;
            }
            let files = differences(&self.added(id, events)?, &other.added(id, events)?);
            if !files.is_empty() {
                let step = step.name.to_string();
                found.push(Unreproducible { step, files });
            }
        }
        Ok(found)
    }

    /// What a step changed: its topmost tree.
    fn added(
        &self,
        step: StepId,
        events: &dyn EventSink,
    ) -> Result<BTreeMap<ImagePath, Entry>, EngineError> {
        let snapshot = self.snapshot(step)?;
        let top = snapshot.layers().last().cloned();
        let trees = self
            .engine
            .trees(&Snapshot::new(top.into_iter().collect(), None), events)?;
        let files = view_of(&trees)?.squash().into_iter();
        Ok(files
            .map(|(entry, _)| (entry.path.clone(), entry))
            .collect())
    }
}
