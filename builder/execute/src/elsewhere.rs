//! Commands that run on other machines, and here where those can't run them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kiln_graph::{Op, StepKey};
use kiln_solve::{Event, Executed, Executor, Filed, Job};

use crate::run::DefaultNetwork;
use crate::{EngineError, Snapshotter};

/// Runs commands on other machines. Called from many threads at once.
pub trait Elsewhere: Send + Sync {
    /// Why a step runs here in any case, in words; nothing when it can be sent.
    fn stays(&self, job: &Job<'_>, around: &Around<'_>) -> Option<String>;

    /// What a step gave that ran there along with one before it, as long as it is made from what it
    /// was made from then; nothing when it is to be run.
    ///
    /// # Errors
    /// When the step ran and failed.
    fn early(&self, job: &Job<'_>, around: &Around<'_>) -> Result<Option<Executed>, EngineError>;

    /// Runs a step there. What it changed comes into this machine's store, or stays there until somebody
    /// here needs its files: then the build's [`DistantTrees`](crate::DistantTrees) know it.
    ///
    /// # Errors
    /// When the step ran and failed, was cancelled, or can't be run there and must not be run here.
    fn execute(&self, job: &Job<'_>, around: &Around<'_>) -> Result<There, EngineError>;

    /// Whether a file operation is better carried out there, for files that it needs are there only.
    fn carries(&self, _job: &Job<'_>, _around: &Around<'_>) -> bool {
        false
    }

    /// What a step of an earlier build gave that is still there.
    fn find(&self, _key: &StepKey, _around: &Around<'_>) -> Option<Filed> {
        None
    }

    /// Remembers a result, where it is there and not here.
    fn note(&self, _filed: &Filed, _around: &Around<'_>) {}

    /// Brings from now on all here that steps change: something that was left there is gone. Whether
    /// that makes a difference.
    fn keep_nothing(&self) -> bool {
        false
    }
}

/// What this machine has for steps that run elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The trees of this machine.
    pub trees: &'a Snapshotter,
    /// The network of steps that don't say which they want.
    pub network: DefaultNetwork,
}

/// What came of a step that was to run elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum There {
    /// It ran there.
    Ran(Executed),
    /// It couldn't be run there, for this reason: it is to be run here.
    Not(String),
}

/// Runs commands elsewhere, and here what can't run there. File operations are carried out here, unless
/// they ran elsewhere along with a command, or need files that are there only.
pub struct ElsewhereExecutor<'a> {
    there: &'a dyn Elsewhere,
    commands: &'a dyn Executor<EngineError>,
    files: &'a dyn Executor<EngineError>,
    around: Around<'a>,
    /// Reasons that the user was told.
    said: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for ElsewhereExecutor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElsewhereExecutor").finish_non_exhaustive()
    }
}

impl<'a> ElsewhereExecutor<'a> {
    /// Runs commands `there`, and the rest with what runs `commands` and `files` here.
    #[must_use]
    pub fn new(
        there: &'a dyn Elsewhere,
        commands: &'a dyn Executor<EngineError>,
        files: &'a dyn Executor<EngineError>,
        around: Around<'a>,
    ) -> Self {
        Self {
            there,
            commands,
            files,
            around,
            said: Mutex::default(),
        }
    }

    /// Runs a command on this machine, and says why.
    fn run_here(&self, job: &Job<'_>, reason: String) -> Result<Executed, EngineError> {
        job.events.event(Event::Placed {
            step: job.id.into(),
            place: None,
            reason: Some(reason),
            queued: None,
            waiting: false,
        });
        self.commands.execute(job)
    }

    /// Carries out a file operation, here unless its files are there.
    fn files(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        if self.there.carries(job, &self.around)
            && let There::Ran(executed) = self.there.execute(job, &self.around)?
        {
            return Ok(executed);
        }
        self.files.prepare(job)?;
        self.files.execute(job)
    }

    fn warn_once(&self, job: &Job<'_>, message: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(message.clone()) {
            job.events.event(Event::Warning { message });
        }
    }
}

impl Executor<EngineError> for ElsewhereExecutor<'_> {
    /// What runs elsewhere needs no files here.
    fn prepare(&self, job: &Job<'_>) -> Result<(), EngineError> {
        // What is carried out here is prepared then.
        if let Op::Files(_) = job.step.op {
            return Ok(());
        }
        match self.there.stays(job, &self.around) {
            Some(_) => self.commands.prepare(job),
            None => Ok(()),
        }
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        if let Some(executed) = self.there.early(job, &self.around)? {
            return Ok(executed);
        }
        if let Op::Files(_) = job.step.op {
            return self.files(job);
        }
        if let Some(reason) = self.there.stays(job, &self.around) {
            self.warn_once(job, format!("steps run on this machine: {reason}"));
            return self.run_here(job, reason);
        }
        match self.there.execute(job, &self.around)? {
            There::Ran(executed) => Ok(executed),
            There::Not(reason) => {
                self.warn_once(job, format!("{reason}; the step runs on this machine"));
                self.commands.prepare(job)?;
                self.run_here(job, reason)
            }
        }
    }
}
