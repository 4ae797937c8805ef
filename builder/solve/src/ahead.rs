//! Which steps follow another without a fork, as far as a solver knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use kiln_graph::{Graph, Op, StepId};

use crate::backend::{Ahead, Following, FollowingInput, StepError};
use crate::snapshot::StepResult;
use crate::solver::Solver;

/// What a solver knows while it solves.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The steps of this build.
    needed: BTreeSet<StepId>,
    /// The results that are there.
    results: BTreeMap<StepId, StepResult>,
}

impl Known {
    /// A build that begins.
    pub(crate) fn begin(&self, needed: impl Iterator<Item = StepId>) {
        let state = State {
            needed: needed.collect(),
            results: BTreeMap::new(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// A result that is there.
    pub(crate) fn note(&self, id: StepId, result: &StepResult) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        _ = state.results.insert(id, result.clone());
    }
}

impl<E: StepError> Ahead for Solver<'_, E> {
    fn chain(&self, id: StepId) -> Vec<Following<'_>> {
        let state = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chain = Vec::new();
        let mut last = id;
        while let Some(next) = state.only_consumer(self.graph, last) {
            let Some(inputs) = state.inputs(self.graph, next, last) else {
                break;
            };
            chain.push(Following {
                id: next,
                definition: self.graph.definition(next),
                step: self.graph.step(next),
                inputs,
                keep_output: self.options.outputs.contains(&next),
            });
            last = next;
        }
        chain
    }
}

impl State {
    /// The one step that is built on another, when nothing else is made from that.
    fn only_consumer(&self, graph: &Graph, id: StepId) -> Option<StepId> {
        let consumers = graph.consumers(id).into_iter();
        let mut needed = consumers.filter(|consumer| self.needed.contains(consumer));
        let only = needed.next().filter(|_| needed.next().is_none())?;
        let op = &graph.step(only).op;
        let is_step = matches!(op, Op::Exec(_) | Op::Files(_));
        let base = op.base().map(|base| graph.input(only, base));
        (is_step && base == Some(id)).then_some(only)
    }

    fn inputs(&self, graph: &Graph, id: StepId, last: StepId) -> Option<Vec<FollowingInput>> {
        let input = |input: &StepId| match *input == last {
            true => Some(FollowingInput::Before),
            false => self.results.get(input).cloned().map(FollowingInput::Result),
        };
        graph.inputs(id).iter().map(input).collect()
    }
}
