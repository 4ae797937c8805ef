//! How a step ended, as it is told.

use std::time::Instant;

use kiln_graph::{BlobDigest, StepId, StepKey, TreeId};

use crate::done::Done;
use crate::event::{Event, EventSink, Outcome};
use crate::snapshot::{LayerRef, StepResult};

/// How a step ended, and what it has in the store.
pub(crate) struct Ended {
    outcome: Outcome,
    key: Option<StepKey>,
    trees: Vec<TreeId>,
    layers: Vec<BlobDigest>,
}

impl Ended {
    pub(crate) fn without_result(outcome: Outcome) -> Self {
        Self {
            outcome,
            key: None,
            trees: Vec::new(),
            layers: Vec::new(),
        }
    }

    pub(crate) fn of(done: &Done) -> Self {
        let mut ended = Self::without_result(done.outcome);
        if let Some(filed) = &done.filed {
            ended.key = Some(filed.key);
            ended.trees.clone_from(&filed.added);
        } else if let StepResult::Snapshot(snapshot) = &done.result {
            for layer in snapshot.layers() {
                match layer {
                    LayerRef::Tree(id) => ended.trees.push(*id),
                    LayerRef::Image { layer, .. } => ended.layers.push(layer.diff_id),
                }
            }
        }
        ended
    }
}

/// Tells that a step ended.
pub(crate) fn tell(events: &dyn EventSink, id: StepId, started: Instant, ended: Ended) {
    events.event(Event::Finished {
        step: id.into(),
        outcome: ended.outcome,
        duration: started.elapsed(),
        key: ended.key,
        trees: ended.trees,
        layers: ended.layers,
    });
}
