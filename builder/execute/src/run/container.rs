//! A root with mounts in which somebody runs processes. What they change goes with it.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use kiln_graph::{Exec, MountKind, Security, Step};
use kiln_sandbox::{
    Exit, Group, Joined, Killer, Output, Sandbox, SandboxError, Spec, Streams, User,
};
use kiln_solve::{Job, Snapshot};

use super::surroundings::environment;
use super::{CommandExecutor, Prepared, unstarted, user_in};
use crate::EngineError;
use crate::secret::{SecretProvider, given};

/// A root with mounts. The first process in it is the one that all others end with.
pub struct Container {
    sandbox: Sandbox,
    step: Step,
    prepared: Prepared,
    secrets: Arc<dyn SecretProvider>,
    gives_away: bool,
    group: Option<Group>,
    first: Mutex<First>,
    /// The first process can be joined, or can't be any more.
    settled: Condvar,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("step", &self.step.name)
            .finish_non_exhaustive()
    }
}

/// What became of the first process.
enum First {
    /// There was none yet.
    None,
    Starting,
    Running(Killer),
    Ended,
}

/// A process to be run in a container.
#[derive(Debug)]
pub struct ContainerProcess<'a> {
    /// What it runs, and as whom; its mounts are variables with secrets only.
    pub exec: &'a Exec,
    /// Where it reads from and writes to.
    pub streams: Streams,
    /// Whether the output is a terminal, which becomes its own.
    pub terminal: bool,
}

/// A process that runs.
#[derive(Clone, Debug)]
pub enum Started {
    /// The one that all others end with.
    First(Killer),
    /// One of the others.
    Other(Joined),
}

impl Started {
    /// Sends it a signal by its number.
    pub fn signal(&self, number: u8) {
        match self {
            Self::First(process) => process.signal(number),
            Self::Other(process) => process.signal(number),
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        match self {
            Self::First(process) => process.kill(),
            Self::Other(process) => process.kill(),
        }
    }
}

impl CommandExecutor<'_> {
    /// Makes a container with the mounts of a command, which isn't run.
    ///
    /// # Errors
    /// When what is mounted can't be had.
    pub fn container(
        &self,
        job: &Job<'_>,
        exec: &Exec,
        root: &Snapshot,
    ) -> Result<Container, EngineError> {
        let trees = self.trees.trees(root, job.events)?;
        let ways = self.ways(job.step)?;
        let group = self.options.cgroups.as_ref().map(|all| all.group());
        let group = group.transpose();
        let group = group.map_err(|error| unstarted(job.step, error.into()))?;
        Ok(Container {
            sandbox: self.sandbox.clone(),
            step: job.step.clone(),
            prepared: self.set_up(job, exec, &trees, ways)?,
            secrets: self.options.secrets.clone(),
            gives_away: self.trees.gives_away,
            group,
            first: Mutex::new(First::None),
            settled: Condvar::new(),
        })
    }
}

impl Container {
    /// Runs a process to its end, on the calling thread. `started` is told when it can be signalled.
    ///
    /// # Errors
    /// When it can't be started, or the first process has ended.
    pub fn run(
        &self,
        process: ContainerProcess<'_>,
        started: impl FnOnce(Started),
    ) -> Result<Exit, EngineError> {
        let mut spec = self.spec(&process)?;
        let failed = |source| unstarted(&self.step, source);
        let done = match self.first_or_running()? {
            None => self.run_first(&spec, process.streams, started),
            Some(first) => {
                // They are there already.
                spec.mounts.clear();
                first.join(&spec, &process.streams).and_then(|joined| {
                    // The process has its own copies now.
                    drop(process.streams);
                    started(Started::Other(joined.clone()));
                    joined.wait()
                })
            }
        };
        Ok(done.map_err(failed)?.exit)
    }

    /// Kills all processes. There can be no more.
    pub fn kill(&self) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let First::Running(killer) = std::mem::replace(&mut *first, First::Ended) {
            killer.kill();
        }
        self.settled.notify_all();
    }

    /// The first process, which others join; nothing for the one that is it.
    fn first_or_running(&self) -> Result<Option<Killer>, EngineError> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*first {
                First::None => {
                    *first = First::Starting;
                    return Ok(None);
                }
                First::Running(killer) => return Ok(Some(killer.clone())),
                First::Ended => {
                    return Err(self.impossible("the container's first process has ended"));
                }
                First::Starting => {
                    let waited = self.settled.wait(first);
                    first = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn run_first(
        &self,
        spec: &Spec,
        streams: Streams,
        started: impl FnOnce(Started),
    ) -> Result<kiln_sandbox::Finished, SandboxError> {
        let output = Output::Given(streams);
        let child = self.sandbox.spawn_in(spec, output, self.group.as_ref());
        let child = child.inspect_err(|_| self.kill())?;
        self.note(child.killer());
        started(Started::First(child.killer()));
        let finished = child.wait();
        self.kill();
        finished
    }

    /// Lets others join the first process, unless the container was killed meanwhile.
    fn note(&self, killer: Killer) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        match *first {
            First::Starting => *first = First::Running(killer),
            _ => killer.kill(),
        }
        self.settled.notify_all();
    }

    fn spec(&self, process: &ContainerProcess<'_>) -> Result<Spec, EngineError> {
        let exec = process.exec;
        let user = self.user(exec)?;
        let own = &self.prepared.spec;
        let set_by_us = own
            .env
            .iter()
            .filter(|(name, _)| name == "APT_CONFIG" || name == "SSH_AUTH_SOCK");
        let mut env = environment(exec, &user, self.secret_env(exec)?);
        env.extend(set_by_us.cloned());
        let has_term = env.iter().any(|(name, _)| name == "TERM");
        if process.terminal && !has_term {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let limits = exec.ulimits.iter();
        Ok(Spec {
            args: exec.args.clone(),
            env,
            cwd: PathBuf::from(exec.cwd.to_string()),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            limits: limits
                .map(|(name, (soft, hard))| (name.clone(), *soft, *hard))
                .collect(),
            insecure: exec.security == Security::Insecure,
            terminal: process.terminal,
            ..own.clone()
        })
    }

    /// The user of a process; with one id there is root only.
    fn user(&self, exec: &Exec) -> Result<User, EngineError> {
        let mut user = user_in(&self.step, exec, &self.prepared.base)?;
        if !self.gives_away {
            (user.uid, user.gid) = (self.prepared.spec.uid, self.prepared.spec.gid);
            user.groups.clear();
        }
        Ok(user)
    }

    /// The variables with secrets.
    fn secret_env(&self, exec: &Exec) -> Result<Vec<(String, String)>, EngineError> {
        let mut all = Vec::new();
        for mount in &exec.mounts {
            let MountKind::Secret(secret) = &mount.kind else {
                continue;
            };
            let value = given(self.secrets.as_ref(), &secret.id, secret.required, None)?;
            if let (Some(value), Some(name)) = (value, &secret.env) {
                let text = String::from_utf8_lossy(value.expose()).into_owned();
                all.push((name.clone(), text));
            }
        }
        Ok(all)
    }

    fn impossible(&self, message: &str) -> EngineError {
        super::failure::impossible(&self.step, message.to_owned())
    }
}
