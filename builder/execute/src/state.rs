//! The files of a step before it ran, afterwards, or when it failed.

use std::collections::BTreeMap;

use kiln_cache::{Store, StoreError, Tree};
use kiln_graph::{Digest, Graph, Step, StepId, TreeId};
use kiln_solve::{Snapshot, StepResult};

use crate::snapshotter::Snapshotter;
use crate::{EngineError, LeftBehind};

/// Which state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// What it starts from.
    Before,
    /// What it leaves behind.
    After,
    /// What it left behind when it failed.
    Failed,
}

/// What a failed command left behind can be looked at until the next build or prune.
///
/// # Errors
/// When the store can't be written.
pub fn keep_failed(store: &Store, definition: &Digest, tree: &Tree) -> Result<(), StoreError> {
    store.memos().put("failed", definition, &tree.id())
}

/// What a step left behind when it failed the last time, if it is there.
///
/// # Errors
/// When the store can't be read.
pub fn failed_tree(
    store: &Store,
    graph: &Graph,
    step: StepId,
) -> Result<Option<TreeId>, EngineError> {
    let tree = store.memos().tree("failed", &graph.definition(step).0)?;
    Ok(tree.map(|tree| tree.id()))
}

/// The files of a step at a moment, with the results of the steps that they are made of.
///
/// # Errors
/// When a directory can't be read, or what a failed step left behind is gone.
pub fn state_at(
    trees: &Snapshotter,
    graph: &Graph,
    step: StepId,
    moment: Moment,
    results: &BTreeMap<StepId, StepResult>,
) -> Result<Snapshot, EngineError> {
    if let (Moment::After, Some(result)) = (moment, results.get(&step)) {
        return trees.snapshot(result);
    }
    let base = graph.step(step).op.base();
    let base = base.and_then(|input| results.get(&graph.input(step, input)));
    let root = trees.snapshot_or_scratch(base)?;
    if moment != Moment::Failed {
        return Ok(root);
    }
    let tree = failed_tree(&trees.store, graph, step)?;
    let tree = tree.ok_or_else(|| gone(graph.step(step)))?;
    Ok(root.with(&[tree]))
}

/// The files of a step when it failed in a build that gave its failure, whatever failed since.
///
/// # Errors
/// When what it left behind is gone.
pub fn state_left(
    trees: &Snapshotter,
    graph: &Graph,
    left: &LeftBehind,
    results: &BTreeMap<StepId, StepResult>,
) -> Result<Snapshot, EngineError> {
    let root = state_at(trees, graph, left.step, Moment::Before, results)?;
    let tree = trees.store.trees().get(&left.tree)?;
    let tree = tree.ok_or_else(|| gone(graph.step(left.step)))?;
    Ok(root.with(&[tree.id()]))
}

fn gone(step: &Step) -> EngineError {
    EngineError::Impossible {
        message: "what the failed step left behind is no longer there: build again".to_owned(),
        location: step.location.clone(),
    }
}
