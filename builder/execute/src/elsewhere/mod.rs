//! Commands that run on other machines, and here where those can't run them or where their inputs are.

mod places;
mod placing;
mod race;
#[cfg(test)]
mod tests;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_graph::{Op, StepId, StepKey};
use kiln_solve::{Event, Executed, Executor, Filed, Job};

use crate::run::DefaultNetwork;
use crate::{EngineError, Snapshotter};
use places::{Places, Taker};
pub use placing::{AtOnce, Moves};
use placing::{Place, Room};
use race::Run;

/// Runs commands on other machines. Called from many threads at once.
pub trait Elsewhere: Send + Sync {
    /// Why a step runs here in any case, in words; nothing when it can be sent.
    fn stays(&self, job: &Job<'_>, around: &Around<'_>) -> Option<String>;

    /// How many steps run there at once, those that wait for a worker among them.
    fn slots(&self) -> usize;

    /// What has to be moved for a step to run there, and to run here; nothing when it is to run there
    /// whatever that takes. Not asked of steps that stay here.
    fn moves(&self, _job: &Job<'_>, _around: &Around<'_>) -> Option<Moves> {
        None
    }

    /// After which time a step that runs in one place is begun in the other as well, as long as there is
    /// room; nothing: never.
    fn race_after(&self) -> Option<Duration> {
        None
    }

    /// Whether a step ran there along with one before it: [`Elsewhere::early`] is likely to have what it
    /// gave.
    fn has_early(&self, _job: &Job<'_>) -> bool {
        false
    }

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

/// Runs commands elsewhere, and here what can't run there or is cheaper here. File operations are carried
/// out here, unless they ran elsewhere along with a command, or need files that are there only. Steps run in
/// both places at once, in each as many as it has room for.
pub struct ElsewhereExecutor<'a> {
    there: &'a dyn Elsewhere,
    commands: &'a dyn Executor<EngineError>,
    files: &'a dyn Executor<EngineError>,
    around: Around<'a>,
    places: Arc<Places>,
    /// Where steps run that are prepared.
    placed: Mutex<BTreeMap<StepId, Placed>>,
    /// Reasons that the user was told.
    said: Mutex<BTreeSet<String>>,
}

/// Where a step can run.
enum Choice {
    /// Here; why, where that is to be shown.
    Here(Option<String>),
    There,
    Either(Moves),
}

/// Where a step runs.
struct Placed {
    taker: Taker,
    /// Why it runs here, where that is to be shown.
    reason: Option<String>,
    /// Whether it could run in the other place.
    may_move: bool,
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
        at_once: AtOnce,
    ) -> Self {
        Self {
            there,
            commands,
            files,
            around,
            places: Places::new(at_once),
            placed: Mutex::default(),
            said: Mutex::default(),
        }
    }

    fn choice(&self, job: &Job<'_>) -> Choice {
        if let Op::Files(_) = job.step.op {
            return match self.there.carries(job, &self.around) {
                true => Choice::There,
                false => Choice::Here(None),
            };
        }
        if let Some(reason) = self.there.stays(job, &self.around) {
            self.warn_once(job, format!("steps run on this machine: {reason}"));
            return Choice::Here(Some(reason));
        }
        let moves = self.there.moves(job, &self.around);
        moves.map_or(Choice::There, Choice::Either)
    }

    /// Waits for room where the step is to run, and brings here what it needs if that is here.
    fn place(&self, job: &Job<'_>, choice: &Choice) -> Result<Placed, EngineError> {
        let wanted = |room: Room| match choice {
            Choice::Here(_) => Some(Place::Here),
            Choice::There => Some(Place::There),
            Choice::Either(moves) => moves.decide(room),
        };
        let taken = self.places.take(wanted, job.cancel);
        let taker = taken.ok_or(EngineError::Cancelled)?;
        if taker.place() == Place::Here {
            self.here(job).prepare(job)?;
        }
        let reason = match (choice, taker.place()) {
            (Choice::Here(reason), _) => reason.clone(),
            (Choice::Either(moves), Place::Here) => Some(match moves.cheapest() {
                Place::Here => "what it needs is here".to_owned(),
                Place::There => "other machines are busy".to_owned(),
            }),
            (Choice::Either(_) | Choice::There, _) => None,
        };
        Ok(Placed {
            taker,
            reason,
            may_move: matches!(choice, Choice::Either(_)),
        })
    }

    /// What runs a step on this machine.
    fn here(&self, job: &Job<'_>) -> &dyn Executor<EngineError> {
        match job.step.op {
            Op::Files(_) => self.files,
            _ => self.commands,
        }
    }

    /// Runs a step on this machine, and says why.
    fn run_here(&self, job: &Job<'_>, reason: Option<String>) -> Result<Executed, EngineError> {
        if reason.is_some() {
            job.events.event(Event::Placed {
                step: job.id.into(),
                place: None,
                reason,
                queued: None,
                waiting: false,
            });
        }
        let began = Instant::now();
        let executed = self.here(job).execute(job)?;
        Ok(Executed {
            took: executed.took.or_else(|| Some(began.elapsed())),
            ..executed
        })
    }

    /// Runs a step here that couldn't be run there.
    fn run_after_all(&self, job: &Job<'_>, reason: String) -> Result<Executed, EngineError> {
        let reason = match job.step.op {
            Op::Files(_) => None,
            _ => {
                self.warn_once(job, format!("{reason}; the step runs on this machine"));
                Some(reason)
            }
        };
        let placed = self.place(job, &Choice::Here(reason))?;
        self.run_here(job, placed.reason)
    }

    fn warn_once(&self, job: &Job<'_>, message: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(message.clone()) {
            job.events.event(Event::Warning { message });
        }
    }

    fn placed(&self) -> std::sync::MutexGuard<'_, BTreeMap<StepId, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor<EngineError> for ElsewhereExecutor<'_> {
    fn slots(&self) -> Option<usize> {
        Some(self.places.count())
    }

    /// A step waits here for its place, so that waiting isn't its time. What runs elsewhere needs no files
    /// here.
    fn prepare(&self, job: &Job<'_>) -> Result<(), EngineError> {
        if self.there.has_early(job) {
            return Ok(());
        }
        let placed = self.place(job, &self.choice(job))?;
        _ = self.placed().insert(job.id, placed);
        Ok(())
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        let placed = self.placed().remove(&job.id);
        if let Some(executed) = self.there.early(job, &self.around)? {
            return Ok(executed);
        }
        let placed = match placed {
            Some(placed) => placed,
            None => self.place(job, &self.choice(job))?,
        };
        let race_after = self.there.race_after().filter(|_| placed.may_move);
        let run = Run::new(job, placed.taker, placed.reason);
        let outcome = match race_after {
            None => self.run(job, &run),
            Some(after) => self.race(job, &run, after),
        };
        drop(run);
        match outcome? {
            There::Ran(executed) => Ok(executed),
            There::Not(reason) => self.run_after_all(job, reason),
        }
    }
}
