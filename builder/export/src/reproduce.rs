//! Whether steps give the same when they are run again.

use std::collections::BTreeMap;

use kiln_execute::{EngineError, view_of};
use kiln_graph::{Entry, ImagePath, Op, StepId};
use kiln_solve::{EventSink, Snapshot, StepResult};

use crate::built::Built;
use crate::inspect::{Difference, by_path, differences};

/// A step that gave different files when it was run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreproducible {
    /// Its name.
    pub step: String,
    /// The files.
    pub files: Vec<Difference>,
}

/// The steps whose own changes differ between two solutions of the same build.
///
/// # Errors
/// When the trees can't be read.
pub fn compare(
    first: Built<'_>,
    second: Built<'_>,
    events: &dyn EventSink,
) -> Result<Vec<Unreproducible>, EngineError> {
    let mut found = Vec::new();
    for (id, step) in first.build.graph.steps() {
        if !matches!(step.op, Op::Exec(_)) || !first.solution.results.contains_key(&id) {
            continue;
        }
        let files = differences(&added(first, id, events)?, &added(second, id, events)?);
        if !files.is_empty() {
            let step = step.name.to_string();
            found.push(Unreproducible { step, files });
        }
    }
    Ok(found)
}

/// What a step changed: its topmost tree.
fn added(
    built: Built<'_>,
    step: StepId,
    events: &dyn EventSink,
) -> Result<BTreeMap<ImagePath, Entry>, EngineError> {
    let top = match built.solution.results.get(&step) {
        Some(StepResult::Snapshot(snapshot)) => snapshot.layers().last().cloned(),
        _ => None,
    };
    let top = Snapshot::new(top.into_iter().collect());
    let view = view_of(&built.trees.trees(&top, events)?)?;
    Ok(by_path(view.squash()))
}
