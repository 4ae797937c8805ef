//! Decides which step runs when: each as soon as its inputs are there, none that isn't needed.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{Graph, StepId};

/// The state of every needed step; pure, so that it can be tested without running anything.
#[derive(Debug)]
pub(crate) struct Schedule {
    waiting: BTreeMap<StepId, usize>,
    needed: BTreeSet<StepId>,
    ready: Vec<StepId>,
}

impl Schedule {
    /// A schedule of `targets` and what they are made from.
    pub(crate) fn new(graph: &Graph, targets: &[StepId]) -> Self {
        let needed: BTreeSet<StepId> = graph.needed_for(targets).into_iter().collect();
        let mut schedule = Self {
            waiting: BTreeMap::new(),
            needed,
            ready: Vec::new(),
        };
        for id in &schedule.needed {
            match distinct_inputs(graph, *id) {
                0 => schedule.ready.push(*id),
                count => _ = schedule.waiting.insert(*id, count),
            }
        }
        schedule
    }

    /// The needed steps, in an order they can run in.
    pub(crate) fn steps(&self) -> impl Iterator<Item = StepId> + '_ {
        self.needed.iter().copied()
    }

    /// Steps whose inputs are all there and that weren't handed out before: so many at the most, in
    /// the order in which they became ready.
    pub(crate) fn take_ready(&mut self, most: usize) -> Vec<StepId> {
        self.ready.drain(..most.min(self.ready.len())).collect()
    }

    /// Notes that a step is done.
    pub(crate) fn done(&mut self, graph: &Graph, id: StepId) {
        for consumer in graph.consumers(id) {
            if let Some(missing) = self.waiting.get_mut(&consumer) {
                *missing -= 1;
                if *missing == 0 {
                    self.waiting.remove(&consumer);
                    self.ready.push(consumer);
                }
            }
        }
    }
}

fn distinct_inputs(graph: &Graph, id: StepId) -> usize {
    graph.inputs(id).iter().collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{Input, Op, Platform, Step};
    use proptest::prelude::*;

    fn merge(count: usize) -> Step {
        let layers = (0u32..).take(count).map(Input).collect();
        let op = if count == 0 {
            Op::Scratch
        } else {
            Op::Merge { layers }
        };
        Step::plain("s", op, Platform::host())
    }

    proptest! {
        #[test]
        fn every_needed_step_runs_once_after_its_inputs(
            shape in proptest::collection::vec(proptest::collection::vec(0usize..100, 0..4), 1..30),
            target in 0usize..30,
        ) {
            let mut graph = Graph::new();
            let mut ids: Vec<StepId> = Vec::new();
            for inputs in &shape {
                let inputs: Vec<StepId> =
                    inputs.iter().filter(|_| !ids.is_empty()).map(|i| ids[i % ids.len()]).collect();
                ids.push(graph.add(merge(inputs.len()), inputs).unwrap());
            }
            let target = ids[target % ids.len()];
            let mut schedule = Schedule::new(&graph, &[target]);
            let mut done = BTreeSet::new();
            let mut open = schedule.take_ready(usize::MAX);
            while let Some(id) = open.pop() {
                prop_assert!(graph.inputs(id).iter().all(|input| done.contains(input)));
                prop_assert!(done.insert(id));
                schedule.done(&graph, id);
                open.extend(schedule.take_ready(2));
            }
            let needed: BTreeSet<StepId> = graph.needed_for(&[target]).into_iter().collect();
            prop_assert_eq!(done, needed);
        }
    }
}
