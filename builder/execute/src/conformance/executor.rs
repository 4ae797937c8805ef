//! Tries executors.

use std::time::{Duration, Instant};

use kiln_cache::Store;
use kiln_graph::conformance::{Nonconforming, rule};
use kiln_graph::{Fault, Step};
use kiln_solve::{Cancel, Executed, Executor, Job, StepError as _, StepResult};

use super::trial::{END_WITHIN, Heard, OneStep, Part, in_store, undamaged};
use crate::EngineError;

/// An executor, and what it is tried with. The store is read whole several times: it had better be a small
/// one, of the test's own.
#[derive(Clone, Copy)]
pub struct ExecutorTrial<'a> {
    /// The executor.
    pub executor: &'a dyn Executor<EngineError>,
    /// Where it puts trees.
    pub store: &'a Store,
    /// What the steps are made from.
    pub inputs: &'a [StepResult],
    /// A step that ends well, and gives the same whenever it is run.
    pub works: &'a Step,
    /// What that one writes to its standard output, were it nothing.
    pub says: &'a str,
    /// A step that fails, because of what its author wrote.
    pub fails: &'a Step,
    /// A step of another kind than the executor runs.
    pub foreign: &'a Step,
    /// A step that runs for a minute or longer, for executors that have such.
    pub long: Option<&'a Step>,
}

impl std::fmt::Debug for ExecutorTrial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutorTrial").finish_non_exhaustive()
    }
}

/// Tries an executor.
///
/// # Errors
/// When it doesn't keep what [`Executor`] says.
pub fn executor(trial: &ExecutorTrial<'_>) -> Result<(), Nonconforming> {
    let session = trial.store.session();
    let _session = session.map_err(Nonconforming::failed("open a session of the store"))?;
    rule(
        trial.executor.slots() != Some(0),
        "it runs no steps at once: builds would wait for ever",
    )?;
    let first = trial.works()?;
    trial.fails()?;
    trial.refuses()?;
    rule(
        trial.run(trial.works, false)?.tree == first.tree,
        "the same step gives another tree after one that failed",
    )?;
    trial.works_at_once(&first)?;
    trial.cancelled_before()?;
    trial.cancelled_meanwhile()?;
    trial.undamaged()
}

impl ExecutorTrial<'_> {
    fn part(&self) -> Part<'_, impl Fn(&Job<'_>) -> Result<Executed, EngineError> + Sync> {
        Part {
            inputs: self.inputs,
            work: |job: &Job<'_>| {
                self.executor.prepare(job)?;
                self.executor.execute(job)
            },
        }
    }

    fn run(&self, step: &Step, keep_output: bool) -> Result<Executed, Nonconforming> {
        let step = OneStep::new(step, self.inputs.len())?;
        let (heard, cancel) = (Heard::default(), Cancel::new());
        let mut job = step.job(self.inputs, &heard, &cancel);
        job.keep_output = keep_output;
        let prepared = self.executor.prepare(&job);
        prepared.map_err(Nonconforming::failed("prepare the step that works"))?;
        let executed = self.executor.execute(&job);
        let executed = executed.map_err(Nonconforming::failed("run the step that works"))?;
        step.told_alone(&heard)?;
        rule(
            heard.output().contains(self.says),
            "what the step writes isn't told while it runs",
        )?;
        Ok(executed)
    }

    /// The step that works gives a tree of the store, and its output to whoever wants it.
    fn works(&self) -> Result<Executed, Nonconforming> {
        let executed = self.run(self.works, false)?;
        rule(
            executed.stdout.is_none(),
            "output is kept that nobody wants",
        )?;
        in_store(self.store, &executed.tree)?;
        self.undamaged()?;
        let kept = self.run(self.works, true)?;
        let wanted = kept.stdout.as_deref().unwrap_or_default();
        rule(
            wanted.contains(self.says),
            "what the step writes to its standard output isn't kept",
        )?;
        rule(
            kept.tree == executed.tree,
            "the same step gives another tree the second time",
        )?;
        Ok(kept)
    }

    fn undamaged(&self) -> Result<(), Nonconforming> {
        let text =
            "a tree isn't what its manifest says: of a result, or of what a step is made from";
        undamaged(self.store, self.inputs, text)
    }

    /// The step that fails is its author's fault, who is told where it is.
    fn fails(&self) -> Result<(), Nonconforming> {
        let error = self
            .part()
            .failed(self.fails, "the step that fails is a success")?;
        rule(
            error.fault() == Fault::User,
            "whoever wrote a step that fails isn't said to be at fault",
        )?;
        rule(
            error.location() == Some(&OneStep::location()),
            "a failure doesn't say where the build file asks for the step",
        )
    }

    fn refuses(&self) -> Result<(), Nonconforming> {
        let taken = "a step of another kind is taken for done";
        self.part().failed(self.foreign, taken).map(drop)
    }

    fn works_at_once(&self, first: &Executed) -> Result<(), Nonconforming> {
        let all = self.part().in_threads(self.works)?;
        rule(
            all.iter().all(|one| one.tree == first.tree),
            "the same step gives another tree in several threads",
        )
    }

    fn cancelled_before(&self) -> Result<(), Nonconforming> {
        let text = "a step of a cancelled build fails with another error";
        self.part().cancelled_before(self.works, text)
    }

    /// A step that is cancelled while it runs ends soon, and says so.
    fn cancelled_meanwhile(&self) -> Result<(), Nonconforming> {
        let Some(long) = self.long else {
            return Ok(());
        };
        let cancel = Cancel::new();
        let started = Instant::now();
        let done = std::thread::scope(|scope| {
            let stop = cancel.clone();
            _ = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(500));
                stop.cancel();
            });
            self.part().done(long, &cancel)
        })?;
        rule(
            done.is_err_and(|error| error.is_cancelled()),
            "a step that was cancelled isn't said to be",
        )?;
        rule(
            started.elapsed() < END_WITHIN,
            "a cancelled step goes on for long",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kiln_cache::{Options, Tree};
    use kiln_graph::{Digest, Entry, Location, Manifest, Node, Op, TreeId};
    use kiln_solve::{Event, LayerRef, Outcome, Snapshot, StepRef, Stream};

    use super::super::trial::scratch;
    use super::*;

    /// A way not to be an executor.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum Wrong {
        #[default]
        Nothing,
        HasNoSlots,
        KeepsNoTree,
        DamagesResults,
        DamagesInputs,
        GivesAnotherTree,
        KeepsUnwantedOutput,
        KeepsNoOutput,
        TellsNoOutput,
        SpeaksForOthers,
        SpeaksForTheSolver,
        NeverFails,
        FailsAsCancelled,
        BlamesKiln,
        ForgetsWhere,
        SaysNothing,
        TakesAnything,
        BreaksAfterFailing,
        GivesThreadsAnotherTree,
        FailsWhenCancelled,
        HearsNoCancel,
        EndsLate,
    }

    struct Fake<'a> {
        wrong: Wrong,
        store: &'a Store,
        calls: AtomicUsize,
        failed: AtomicUsize,
    }

    /// A tree with one file.
    fn tree(store: &Store, content: &str) -> Tree {
        let staging = store.staging().unwrap();
        std::fs::write(staging.fs().join("file"), content).unwrap();
        let node = Node::File {
            size: content.len() as u64,
            digest: Digest::of(content.as_bytes()),
        };
        let entry = Entry {
            node,
            ..Entry::directory("/file".into())
        };
        store
            .trees()
            .commit(staging, Manifest::new(vec![entry]))
            .unwrap()
    }

    fn damage(tree: &Tree) {
        std::fs::write(tree.fs().join("file"), "other").unwrap();
    }

    impl Fake<'_> {
        fn content(&self) -> String {
            let calls = self.calls.fetch_add(1, Ordering::SeqCst);
            match self.wrong {
                Wrong::GivesAnotherTree => calls.to_string(),
                Wrong::BreaksAfterFailing => self.failed.load(Ordering::SeqCst).to_string(),
                Wrong::GivesThreadsAnotherTree => format!("{:?}", std::thread::current().id()),
                _ => "right".to_owned(),
            }
        }

        fn tell(&self, job: &Job<'_>) {
            let own = StepRef::from(job.id);
            let step = match self.wrong {
                Wrong::SpeaksForOthers => StepRef(own.0 + 1),
                _ => own,
            };
            if self.wrong == Wrong::SpeaksForTheSolver {
                job.events.event(Event::Finished {
                    step: own,
                    outcome: Outcome::Ran,
                    duration: Duration::ZERO,
                    key: None,
                    trees: Vec::new(),
                    layers: Vec::new(),
                });
            }
            if self.wrong != Wrong::TellsNoOutput {
                job.events.event(Event::Output {
                    step,
                    stream: Stream::Stdout,
                    bytes: b"hello\n".to_vec(),
                });
            }
        }

        fn failure(&self, location: Option<Location>) -> EngineError {
            _ = self.failed.fetch_add(1, Ordering::SeqCst);
            let message = match self.wrong {
                Wrong::FailsAsCancelled => return EngineError::Cancelled,
                Wrong::BlamesKiln => return EngineError::Defect("it is a defect".to_owned()),
                Wrong::SaysNothing => String::new(),
                _ => "it fails".to_owned(),
            };
            let location = location.filter(|_| self.wrong != Wrong::ForgetsWhere);
            EngineError::Impossible { message, location }
        }

        fn wait(&self, job: &Job<'_>) -> Result<(), EngineError> {
            while !job.cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            match self.wrong {
                Wrong::HearsNoCancel => return Ok(()),
                Wrong::EndsLate => std::thread::sleep(END_WITHIN),
                _ => {}
            }
            Err(EngineError::Cancelled)
        }
    }

    impl Executor<EngineError> for Fake<'_> {
        fn slots(&self) -> Option<usize> {
            (self.wrong == Wrong::HasNoSlots).then_some(0)
        }

        fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
            let fails = self.wrong != Wrong::NeverFails;
            match job.step.name.text.as_str() {
                "long" => self.wait(job)?,
                "fails" if fails => return Err(self.failure(job.step.location.clone())),
                "foreign" if self.wrong != Wrong::TakesAnything => {
                    return Err(EngineError::Defect("it is something else".to_owned()));
                }
                _ => {}
            }
            if self.wrong == Wrong::FailsWhenCancelled && job.cancel.is_cancelled() {
                return Err(EngineError::Defect("broken pipe".to_owned()));
            }
            self.tell(job);
            let made = tree(self.store, &self.content());
            match self.wrong {
                Wrong::DamagesResults => damage(&made),
                Wrong::DamagesInputs => damage(&tree(self.store, "input")),
                _ => {}
            }
            let keeps = match self.wrong {
                Wrong::KeepsUnwantedOutput => true,
                Wrong::KeepsNoOutput => false,
                _ => job.keep_output,
            };
            Ok(Executed {
                tree: match self.wrong {
                    Wrong::KeepsNoTree => TreeId(Digest::of(b"nowhere")),
                    _ => made.id(),
                },
                stdout: keeps.then(|| "hello\n".to_owned()),
                took: None,
            })
        }
    }

    fn tried(wrong: Wrong) -> Result<(), Nonconforming> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Options::default()).unwrap();
        let named = |text: &str| {
            let mut step = scratch();
            step.op = Op::Scratch;
            step.name.text = text.to_owned();
            step
        };
        let input = LayerRef::Tree(tree(&store, "input").id());
        executor(&ExecutorTrial {
            executor: &Fake {
                wrong,
                store: &store,
                calls: AtomicUsize::new(0),
                failed: AtomicUsize::new(0),
            },
            store: &store,
            inputs: &[StepResult::Snapshot(Snapshot::new(vec![input]))],
            works: &named("works"),
            says: "hello",
            fails: &named("fails"),
            foreign: &named("foreign"),
            long: Some(&named("long")),
        })
    }

    #[test]
    fn each_fault_is_found() {
        tried(Wrong::Nothing).unwrap();
        let cases = [
            (Wrong::HasNoSlots, "no steps at once"),
            (Wrong::KeepsNoTree, "isn't in the store"),
            (Wrong::DamagesResults, "isn't what its manifest says"),
            (Wrong::DamagesInputs, "isn't what its manifest says"),
            (Wrong::GivesAnotherTree, "the second time"),
            (Wrong::KeepsUnwantedOutput, "that nobody wants"),
            (Wrong::KeepsNoOutput, "isn't kept"),
            (Wrong::TellsNoOutput, "isn't told while it runs"),
            (Wrong::SpeaksForOthers, "of other steps"),
            (Wrong::SpeaksForTheSolver, "only the solver tells"),
            (Wrong::NeverFails, "is a success"),
            (Wrong::FailsAsCancelled, "said to be a cancelled build"),
            (Wrong::BlamesKiln, "at fault"),
            (Wrong::ForgetsWhere, "where the build file asks"),
            (Wrong::SaysNothing, "says nothing"),
            (Wrong::TakesAnything, "of another kind"),
            (Wrong::BreaksAfterFailing, "after one that failed"),
            (Wrong::GivesThreadsAnotherTree, "several threads"),
            (Wrong::FailsWhenCancelled, "with another error"),
            (Wrong::HearsNoCancel, "isn't said to be"),
            (Wrong::EndsLate, "goes on for long"),
        ];
        for (wrong, want) in cases {
            let said = tried(wrong).unwrap_err().to_string();
            assert!(said.contains(want), "{wrong:?}: {said}");
        }
    }
}
