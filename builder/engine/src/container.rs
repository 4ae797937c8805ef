//! Containers: results of builds with processes in them.

use kiln_execute::{Container, EngineError};
use kiln_graph::{Exec, Graph, Op, Platform, Step, StepId};
use kiln_solve::{Job, Snapshot, StepResult, check_entitlements};

use crate::engine::Engine;
use crate::request::Request;
use crate::solved::Solved;

/// What a mount of a container shows: the result of a step of a build, or nothing.
pub type Shown<'a> = Option<(&'a Solved, StepId)>;

impl Engine {
    /// Makes a container. `exec` is what is mounted in it, its root among it, and no command; what each of its
    /// inputs is is in `shown`, in their order. Of `request` is taken what commands may have.
    ///
    /// # Errors
    /// When a result can't be had, or the container may not have what it asks for.
    pub fn container(
        &self,
        request: &Request,
        exec: Exec,
        shown: &[Shown<'_>],
    ) -> Result<Container, EngineError> {
        let events = &*request.events;
        let mut inputs = Vec::new();
        for one in shown {
            let snapshot = match one {
                None => Snapshot::scratch(),
                Some((solved, step)) => solved.brought(*step, events)?,
            };
            inputs.push(StepResult::Snapshot(snapshot));
        }
        let (graph, step) = graph_of(exec, inputs.len())?;
        check_entitlements(&graph, &[step], &request.allowed)?;
        // What the machine refuses is found before anything runs.
        _ = self.try_overlay();
        let machine = self.machine(request);
        let job = Job::alone(&graph, step, &inputs, events, &request.cancel);
        let Op::Exec(exec) = &job.step.op else {
            return Err(EngineError::Defect("a container without mounts".to_owned()));
        };
        let root = machine.trees.snapshot(job.input(exec.root))?;
        machine.command_executor().container(&job, exec, &root)
    }
}

/// A command on so many empty trees: what they are is told beside it.
fn graph_of(exec: Exec, inputs: usize) -> Result<(Graph, StepId), EngineError> {
    let mut graph = Graph::new();
    let host = Platform::host();
    let mut add = |name: &str, op: Op, inputs: Vec<StepId>| {
        let step = Step::plain(name, op, host.clone());
        let added = graph.add(step, inputs);
        added.map_err(|error| EngineError::Defect(error.to_string()))
    };
    let trees = (0..inputs).map(|_| add("scratch", Op::Scratch, Vec::new()));
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    let step = add("container", Op::Exec(Box::new(exec)), trees)?;
    Ok((graph, step))
}
