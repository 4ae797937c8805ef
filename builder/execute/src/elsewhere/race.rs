//! A step that takes long in one place is begun in the other as well, and the first result counts.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kiln_solve::{Cancel, CancelHook, Job};

use super::places::Taker;
use super::placing::Place;
use super::voice::Voice;
use super::{ElsewhereExecutor, There};
use crate::EngineError;

/// How often it is looked whether there is room in the other place.
const INTERVAL: Duration = Duration::from_millis(50);

/// One run of a step in one place.
pub(super) struct Run<'a> {
    voice: Voice<'a>,
    /// Stops this run alone.
    cancel: Cancel,
    _following: CancelHook,
    /// Why it runs here, where that is to be shown.
    reason: Option<String>,
}

impl<'a> Run<'a> {
    /// The first.
    pub(super) fn new(job: &Job<'a>, taker: Taker, reason: Option<String>) -> Self {
        let voice = Voice::new(job.events, job.id.into(), taker);
        Self::with(job, voice, reason)
    }

    /// The second, of which nothing is heard before it wins.
    fn second(job: &Job<'a>, taker: Taker) -> Self {
        let voice = Voice::withheld(job.events, job.id.into(), taker);
        let reason = "it was done here first".to_owned();
        Self::with(job, voice, Some(reason))
    }

    fn with(job: &Job<'a>, voice: Voice<'a>, reason: Option<String>) -> Self {
        let (cancel, following) = job.cancel.child();
        Self {
            voice,
            cancel,
            _following: following,
            reason,
        }
    }
}

type Outcome = Result<There, EngineError>;

/// Whether nothing else can come of the step, wherever it runs.
fn is_final(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(There::Ran(_)) | Err(EngineError::Step(_)))
}

impl ElsewhereExecutor<'_> {
    /// Runs a step in one place.
    pub(super) fn run(&self, job: &Job<'_>, run: &Run<'_>) -> Outcome {
        let job = Job {
            events: &run.voice,
            cancel: &run.cancel,
            ..*job
        };
        match run.voice.place() {
            Place::There => self.there.execute(&job, &self.around),
            Place::Here => self.run_here(&job, run.reason.clone()).map(There::Ran),
        }
    }

    /// Runs a step, after some time in both places.
    pub(super) fn race(&self, job: &Job<'_>, first: &Run<'_>, after: Duration) -> Outcome {
        let second = OnceLock::new();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let (send, ended) = channel();
            let begin = |run| {
                let send = send.clone();
                scope.spawn(move || {
                    let outcome = catch_unwind(AssertUnwindSafe(|| self.prepared(job, run)));
                    _ = send.send((run, outcome));
                });
            };
            begin(first);
            let mut running = 1;
            loop {
                match ended.recv_timeout(INTERVAL) {
                    Ok((run, ended)) => {
                        running -= 1;
                        let other = other_of(run, first, second.get());
                        let outcome = ended.unwrap_or_else(|panic| {
                            // The scope waits for the other.
                            decide(run, other);
                            resume_unwind(panic)
                        });
                        if is_final(&outcome) || running == 0 {
                            decide(run, other);
                            return outcome;
                        }
                        // The other goes on alone.
                        if let Some(other) = other {
                            other.voice.speak(run.voice.silence());
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        stop_what_is_late(first, second.get());
                        let is_late = began.elapsed() >= after && second.get().is_none();
                        if is_late && let Some(taker) = self.room_beside(first) {
                            begin(second.get_or_init(|| Run::second(job, taker)));
                            running += 1;
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return Err(EngineError::Cancelled),
                }
            }
        })
    }

    /// Room in the other place, for a step that can still be overtaken.
    fn room_beside(&self, run: &Run<'_>) -> Option<Taker> {
        let place = run.voice.place().other();
        let may_win = !run.voice.went_on() && !run.cancel.is_cancelled();
        may_win.then(|| self.places.take_now(place)).flatten()
    }

    /// The second run is prepared when it begins.
    fn prepared(&self, job: &Job<'_>, run: &Run<'_>) -> Outcome {
        if run.voice.place() == Place::Here {
            self.here(job).prepare(job)?;
        }
        self.run(job, run)
    }
}

fn other_of<'r, 'a>(
    run: &'r Run<'a>,
    first: &'r Run<'a>,
    second: Option<&'r Run<'a>>,
) -> Option<&'r Run<'a>> {
    match std::ptr::eq(run, first) {
        true => second,
        false => Some(first),
    }
}

/// What a run gave counts, and the other is stopped.
fn decide(run: &Run<'_>, other: Option<&Run<'_>>) {
    if let Some(other) = other {
        run.voice.speak(other.voice.silence());
        other.cancel.overtake();
    }
}

/// Of a step that has been done elsewhere, along with others that still run there, nothing is to be done
/// here.
fn stop_what_is_late(first: &Run<'_>, second: Option<&Run<'_>>) {
    let Some(second) = second else { return };
    for (run, other) in [(first, second), (second, first)] {
        if run.voice.went_on() && run.voice.place() == Place::There {
            other.cancel.overtake();
        }
    }
}
