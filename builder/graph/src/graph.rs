//! The directed graph of steps.

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, EdgeRef, IntoNeighbors, Reversed, Visitable};

use crate::encode::Encoder;
use crate::{DefinitionDigest, Input, Step};

/// Bumped whenever [`crate::Op::encode`] or the encoding below changes.
pub const DEFINITION_VERSION: u32 = 1;

/// A step of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(NodeIndex<u32>);

impl StepId {
    /// The step's position in the order the steps were added in.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// A step that can't be added; always a fault of the program that builds the graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The operation names an input that the step wasn't given.
    #[error("step '{step}' names input {input}, but has only {given} inputs")]
    MissingInput {
        /// The step's name.
        step: String,
        /// The input named.
        input: u32,
        /// How many there are.
        given: usize,
    },
    /// An input is a step of another graph.
    #[error("step '{step}' is given an input that is not a step of this graph")]
    ForeignInput {
        /// The step's name.
        step: String,
    },
}

#[derive(Clone, Debug)]
struct Vertex {
    step: Step,
    inputs: Vec<StepId>,
    definition: DefinitionDigest,
}

/// Steps and what each is made from. Acyclic by construction: a step's inputs are there before it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    vertices: DiGraph<Vertex, Input>,
}

impl Graph {
    /// A graph without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step made from steps that are already there.
    ///
    /// # Errors
    /// When the operation names an input beyond `inputs`, or an input is not of this graph.
    pub fn add(&mut self, step: Step, inputs: Vec<StepId>) -> Result<StepId, GraphError> {
        self.check(&step, &inputs)?;
        let definition = self.define(&step, &inputs);
        let id = StepId(self.vertices.add_node(Vertex {
            step,
            inputs: inputs.clone(),
            definition,
        }));
        for (position, input) in (0u32..).zip(inputs) {
            self.vertices.add_edge(input.0, id.0, Input(position));
        }
        Ok(id)
    }

    fn check(&self, step: &Step, inputs: &[StepId]) -> Result<(), GraphError> {
        let named = step.op.inputs();
        if let Some(input) = named.iter().find(|input| input.index() >= inputs.len()) {
            let (step, input) = (step.name.to_string(), input.0);
            return Err(GraphError::MissingInput {
                step,
                input,
                given: inputs.len(),
            });
        }
        if inputs
            .iter()
            .any(|input| input.index() >= self.vertices.node_count())
        {
            return Err(GraphError::ForeignInput {
                step: step.name.to_string(),
            });
        }
        Ok(())
    }

    fn define(&self, step: &Step, inputs: &[StepId]) -> DefinitionDigest {
        let mut out = Encoder::new("kiln-step", DEFINITION_VERSION);
        step.op.encode(&mut out);
        out.str(&step.platform.to_string());
        out.seq(inputs, |out, input| {
            out.digest(&self.definition(*input).0);
        });
        DefinitionDigest(out.finish())
    }

    /// A step.
    ///
    /// # Panics
    /// When `id` comes from another graph that has more steps than this one.
    #[must_use]
    pub fn step(&self, id: StepId) -> &Step {
        &self.vertices[id.0].step
    }

    /// A step's inputs, in the order its operation counts them.
    #[must_use]
    pub fn inputs(&self, id: StepId) -> &[StepId] {
        &self.vertices[id.0].inputs
    }

    /// One input of a step.
    #[must_use]
    pub fn input(&self, id: StepId, input: Input) -> StepId {
        self.vertices[id.0].inputs[input.index()]
    }

    /// What a step is, with everything it is made from.
    #[must_use]
    pub fn definition(&self, id: StepId) -> DefinitionDigest {
        self.vertices[id.0].definition
    }

    /// The steps made directly from this one, each once, in the order they were added.
    #[must_use]
    pub fn consumers(&self, id: StepId) -> Vec<StepId> {
        let edges = self.vertices.edges_directed(id.0, Direction::Outgoing);
        let unique: BTreeSet<StepId> = edges.map(|edge| StepId(edge.target())).collect();
        unique.into_iter().collect()
    }

    /// All steps in the order they were added, which is an order they can run in.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = StepId> + use<> {
        self.vertices.node_indices().map(StepId)
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vertices.node_count()
    }

    /// Whether there are no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vertices.node_count() == 0
    }

    /// Every step, in an order they can run in.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.vertices
            .node_indices()
            .map(StepId)
            .map(|id| (id, self.step(id)))
    }

    /// `targets` and every step they are made from, in an order they can run in.
    #[must_use]
    pub fn needed_for(&self, targets: &[StepId]) -> Vec<StepId> {
        reachable(Reversed(&self.vertices), targets)
    }

    /// `steps` and every step that is made from them, in an order they can run in.
    #[must_use]
    pub fn made_from(&self, steps: &[StepId]) -> Vec<StepId> {
        reachable(&self.vertices, steps)
    }
}

/// The vertices that can be reached from some, in the order they were added.
fn reachable<G>(graph: G, starts: &[StepId]) -> Vec<StepId>
where
    G: IntoNeighbors<NodeId = NodeIndex<u32>> + Visitable<NodeId = NodeIndex<u32>>,
{
    let mut search = Dfs::empty(graph);
    let mut found = Vec::new();
    for start in starts {
        search.move_to(start.0);
        while let Some(vertex) = search.next(graph) {
            found.push(StepId(vertex));
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, Op, Platform};

    fn step(op: Op) -> Step {
        Step::plain("x", op, Platform::new("linux", "amd64", ""))
    }

    fn files(base: Option<Input>) -> Op {
        Op::Files(Files {
            base,
            actions: Vec::new(),
        })
    }

    #[test]
    fn inputs_must_exist() {
        let mut graph = Graph::new();
        let error = graph
            .add(step(files(Some(Input(0)))), Vec::new())
            .unwrap_err();
        assert!(matches!(
            error,
            GraphError::MissingInput {
                input: 0,
                given: 0,
                ..
            }
        ));
        let mut other = Graph::new();
        let far = other.add(step(Op::Scratch), Vec::new()).unwrap();
        let error = graph
            .add(step(files(Some(Input(0)))), vec![far])
            .unwrap_err();
        assert!(matches!(error, GraphError::ForeignInput { .. }));
    }

    #[test]
    fn definitions_follow_inputs_but_not_names() {
        let mut graph = Graph::new();
        let scratch = graph.add(step(Op::Scratch), Vec::new()).unwrap();
        let on_scratch = graph
            .add(step(files(Some(Input(0)))), vec![scratch])
            .unwrap();
        let on_files = graph
            .add(step(files(Some(Input(0)))), vec![on_scratch])
            .unwrap();
        assert_ne!(graph.definition(on_scratch), graph.definition(on_files));
        let mut renamed = step(files(Some(Input(0))));
        renamed.name.text = "other".into();
        let again = graph.add(renamed, vec![scratch]).unwrap();
        assert_eq!(graph.definition(on_scratch), graph.definition(again));
    }

    #[test]
    fn only_what_a_target_needs() {
        let mut graph = Graph::new();
        let a = graph.add(step(Op::Scratch), Vec::new()).unwrap();
        let b = graph.add(step(files(Some(Input(0)))), vec![a]).unwrap();
        let aside = graph.add(step(files(None)), Vec::new()).unwrap();
        assert_eq!(graph.needed_for(&[b]), [a, b]);
        assert_eq!(graph.consumers(a), [b]);
        assert_eq!(graph.made_from(&[a]), [a, b]);
        assert_eq!(graph.made_from(&[aside, b, aside]), [b, aside]);
        assert_eq!(graph.needed_for(&[b, aside]).len(), 3);
    }
}
