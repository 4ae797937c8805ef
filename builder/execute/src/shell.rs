//! A shell in the state that a step starts from, left behind, or failed in.

use std::os::fd::OwnedFd;

use kiln_graph::{Exec, Graph, ImagePath, Input, Op, StepId};
use kiln_sandbox::{Exit, Output, Sandbox};
use kiln_solve::{Job, Snapshot};

use crate::EngineError;
use crate::run::{CommandExecutor, unstarted};
use crate::snapshotter::Snapshotter;
use crate::view::{View, view_of};

/// A command in the surroundings of a step: for a step that runs none, with the variables of the
/// nearest one built on it.
#[must_use]
pub fn surroundings(graph: &Graph, step: StepId) -> Exec {
    if let Op::Exec(exec) = &graph.step(step).op {
        return (**exec).clone();
    }
    let mut exec = next_command(graph, step).unwrap_or_else(bare_command);
    exec.mounts.clear();
    exec
}

fn next_command(graph: &Graph, step: StepId) -> Option<Exec> {
    let mut open = graph.consumers(step);
    while let Some(next) = open.pop() {
        if let Op::Exec(exec) = &graph.step(next).op {
            return Some((**exec).clone());
        }
        open.extend(graph.consumers(next));
    }
    None
}

/// Runs a shell on a terminal in a root, as a command with `exec`'s mounts, variables, user and
/// network. What it changes is thrown away. Gives the shell's exit status.
///
/// # Errors
/// When there is no shell in the root, or it can't be run.
pub fn interact(
    executor: &CommandExecutor<'_>,
    trees: &Snapshotter,
    sandbox: &Sandbox,
    job: &Job<'_>,
    mut exec: Exec,
    root: &Snapshot,
    terminal: OwnedFd,
) -> Result<i32, EngineError> {
    let trees = trees.trees(root, job.events)?;
    let shell = find_shell(&view_of(&trees)?).ok_or_else(|| EngineError::Impossible {
        message: "there is no /bin/bash or /bin/sh in this state of the image".to_owned(),
        location: job.step.location.clone(),
    })?;
    exec.args = vec![shell];
    let ways = executor.ways(job.step)?;
    let mut prepared = executor.set_up(job, &exec, &trees, ways)?;
    prepared.spec.terminal = true;
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    prepared.spec.env.push(("TERM".to_owned(), term));
    let failed = |source| unstarted(job.step, source);
    let child = sandbox.spawn(&prepared.spec, Output::Terminal(terminal));
    let child = child.map_err(failed)?;
    let killer = child.killer();
    let _guard = job.cancel.on_cancel(move || killer.kill());
    match child.wait().map_err(failed)?.exit {
        Exit::Code(code) | Exit::NotExecuted { code, .. } => Ok(code),
        Exit::Signal(signal) => Ok(128 + signal),
        Exit::OutOfMemory | Exit::Killed => Ok(137),
    }
}

fn find_shell(view: &View) -> Option<String> {
    let is_there = |path: &&str| {
        view.get(&view.resolve(&ImagePath::new(path), true))
            .is_some()
    };
    let found = ["/bin/bash", "/bin/sh", "/bin/busybox"]
        .into_iter()
        .find(is_there);
    found.map(str::to_owned)
}

fn bare_command() -> Exec {
    Exec {
        env: vec![(
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        )],
        ..Exec::new(Input(0), Vec::new())
    }
}
