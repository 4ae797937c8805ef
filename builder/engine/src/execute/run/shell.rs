//! A shell in the state that a step starts from, left behind, or failed in.

use std::os::fd::OwnedFd;

use kiln_graph::{Exec, ImagePath, Input, Op, StepId, TreeId};
use kiln_sandbox::{Exit, Output};

use super::mounts::Held;
use crate::EngineError;
use crate::engine::{Engine, Request};
use crate::execute::snapshotter::view_of;
use crate::execute::view::View;
use crate::solve::snapshot::{Snapshot, StepResult};
use crate::solve::step::Shared;

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

impl Engine {
    /// Whether a step's last failure can be looked at.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn has_failed_state(&self, request: &Request, step: StepId) -> Result<bool, EngineError> {
        Ok(self.failed_tree(request, step)?.is_some())
    }

    pub(crate) fn failed_tree(
        &self,
        request: &Request,
        step: StepId,
    ) -> Result<Option<TreeId>, EngineError> {
        let name = request.build.graph.definition(step).0;
        let id = self.store.memo::<TreeId>("failed", &name)?;
        Ok(match id {
            Some(id) => self.store.tree(&id)?.map(|tree| tree.id()),
            None => None,
        })
    }

    /// Runs a shell on a terminal in a state of a step, with the step's mounts, variables, user
    /// and network. What it changes is thrown away. Gives the shell's exit status.
    ///
    /// # Errors
    /// When the state can't be made, or there is no shell in it.
    pub fn shell(
        &self,
        request: &Request,
        step: StepId,
        moment: Moment,
        terminal: OwnedFd,
    ) -> Result<i32, EngineError> {
        let graph = &request.build.graph;
        let mut wanted = graph.inputs(step).to_vec();
        if moment == Moment::After {
            wanted.push(step);
        }
        let (answers, _session) = self.solve_steps(request, &wanted)?;
        let results = answers.results;
        let inputs: Vec<StepResult> = graph
            .inputs(step)
            .iter()
            .filter_map(|input| results.get(input).cloned())
            .collect();
        let shared = Shared::new(self, request)?;
        let root = shared.state(step, moment, &results)?;
        let exec = shared.surroundings(step);
        shared.interact(step, exec, &inputs, &root, terminal)
    }
}

impl Shared<'_> {
    /// A command in the surroundings of a step: for a step that runs none, with the variables of
    /// the nearest one built on it.
    fn surroundings(&self, step: StepId) -> Exec {
        if let Op::Exec(exec) = &self.graph().step(step).op {
            return (**exec).clone();
        }
        let mut exec = self.next_command(step).unwrap_or_else(bare_command);
        exec.mounts.clear();
        exec
    }

    fn next_command(&self, step: StepId) -> Option<Exec> {
        let mut open = self.graph().consumers(step);
        while let Some(next) = open.pop() {
            if let Op::Exec(exec) = &self.graph().step(next).op {
                return Some((**exec).clone());
            }
            open.extend(self.graph().consumers(next));
        }
        None
    }

    fn interact(
        &self,
        step: StepId,
        mut exec: Exec,
        inputs: &[StepResult],
        root: &Snapshot,
        terminal: OwnedFd,
    ) -> Result<i32, EngineError> {
        let about = self.graph().step(step);
        let trees = self.engine.trees(root, &*self.request.events)?;
        let base = view_of(&trees)?;
        exec.args = vec![find_shell(&base).ok_or_else(|| EngineError::Missing {
            message: "there is no /bin/bash or /bin/sh in this state of the image".to_owned(),
            location: about.location.clone(),
        })?];
        // What the machine refuses is found before the terminal is given away.
        _ = self.engine.try_overlay();
        let ways = self.ways(about)?;
        let staging = self.engine.store.staging()?;
        let mut held = Held::new(ways, &staging);
        let user = self.user(about, &exec, &base)?;
        let (mounts, secrets) = self.mounts(about, &exec, inputs, &mut held)?;
        let root = self.root(&trees, &base, &staging, ways)?;
        let mut spec = self.spec(&exec, root, &user, mounts, secrets);
        spec.ways = ways;
        spec.terminal = true;
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        spec.env.push(("TERM".to_owned(), term));
        let failed = |source| EngineError::Sandbox {
            name: about.name.to_string(),
            location: about.location.clone(),
            source,
        };
        let child = self
            .engine
            .sandbox
            .spawn(&spec, Output::Terminal(terminal))
            .map_err(failed)?;
        let killer = child.killer();
        let _guard = self.cancel.on_cancel(move || killer.kill());
        match child.wait().map_err(failed)?.exit {
            Exit::Code(code) | Exit::NotExecuted { code, .. } => Ok(code),
            Exit::Signal(signal) => Ok(128 + signal),
            Exit::OutOfMemory | Exit::Killed => Ok(137),
        }
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
        root: Input(0),
        args: Vec::new(),
        env: vec![(
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        )],
        proxy: std::collections::BTreeMap::new(),
        cwd: ImagePath::root(),
        user: None,
        mounts: Vec::new(),
        network: kiln_graph::Network::Default,
        security: kiln_graph::Security::Sandbox,
        hostname: None,
        extra_hosts: Vec::new(),
        ulimits: std::collections::BTreeMap::new(),
        shm_size: None,
        retries: 0,
        timeout: None,
        accept_status: Vec::new(),
    }
}
