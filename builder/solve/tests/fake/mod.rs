//! A machine that runs nothing: steps are names, their results digests.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kiln_graph::{
    ContentDigest, CopyFiles, Digest, Entry, Exec, FileAction, Files, Graph, ImagePath, Input,
    Manifest, Node, Op, Platform, Step, StepId, StepKey, StepName, TreeId,
};
use kiln_solve::{
    Backend, Cancel, Contents, Directory, Event, Executed, Executor, Filed, Job, Origin, Outcome,
    Part, ResolvedSource, ResultStore, SharedCaches, Snapshot, Solution, SolveOptions, Solver,
    SourceResolver, StepError, StepResult, Usable,
};

/// What goes wrong in fakes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FakeError {
    #[error("{0} failed")]
    Failed(String),
    #[error("cancelled")]
    Cancelled,
    #[error("several")]
    Several(Vec<FakeError>),
}

impl StepError for FakeError {
    fn cancelled() -> Self {
        Self::Cancelled
    }

    fn is_cancelled(&self) -> bool {
        *self == Self::Cancelled
    }

    fn several(errors: Vec<Self>) -> Self {
        Self::Several(errors)
    }
}

/// How a command behaves.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// It gives the tree of this name.
    Gives(&'static str),
    /// It fails.
    Fails,
    /// It fails once another step runs beside it.
    FailsBesideAnother,
    /// It runs until it is cancelled.
    Hangs,
    /// It has the user cancel the build.
    Cancels,
}

/// Keys that somebody holds.
#[derive(Default)]
pub struct Locks {
    held: Mutex<BTreeSet<StepKey>>,
    freed: Condvar,
}

struct Held(Arc<Locks>, StepKey);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.lock().unwrap().remove(&self.1);
        self.0.freed.notify_all();
    }
}

/// The machine, which keeps its results from one build to the next.
#[derive(Default)]
pub struct Fake {
    pub behaviours: BTreeMap<String, Behaviour>,
    pub stored: Mutex<BTreeMap<StepKey, Filed>>,
    pub shared: BTreeMap<StepKey, Filed>,
    /// The names of steps that ran, in the order in which they ended.
    pub ran: Mutex<Vec<String>>,
    /// The names of steps that were offered to others.
    pub offered: Mutex<Vec<String>>,
    /// How steps ended.
    pub ended: Mutex<BTreeMap<usize, Outcome>>,
    /// The files of contexts.
    pub files: Vec<&'static str>,
    /// The most steps that ran at once.
    pub most: AtomicUsize,
    pub running: AtomicUsize,
    pub locks: Arc<Locks>,
    pub cancel: Cancel,
}

impl Fake {
    pub fn behaving(behaviours: &[(&str, Behaviour)]) -> Self {
        let own = behaviours.iter();
        Self {
            behaviours: own
                .map(|(name, how)| ((*name).to_owned(), how.clone()))
                .collect(),
            ..Self::default()
        }
    }

    pub fn solve(
        &self,
        graph: &Graph,
        targets: &[StepId],
        options: &SolveOptions,
    ) -> Result<Solution, FakeError> {
        self.with_solver(graph, options, |solver| solver.solve(targets))
    }

    pub fn with_solver<R>(
        &self,
        graph: &Graph,
        options: &SolveOptions,
        work: impl FnOnce(&Solver<'_, FakeError>) -> R,
    ) -> R {
        let events = |event: Event| {
            if let Event::Finished { step, outcome, .. } = event {
                self.ended.lock().unwrap().insert(step.0, outcome);
            }
        };
        let backend = Backend {
            store: self,
            contents: self,
            commands: self,
            files: self,
            sources: self,
            shared: self,
        };
        work(&Solver::new(graph, options, backend, &events, &self.cancel))
    }

    /// What ran since the last time somebody asked, sorted.
    pub fn took(&self) -> Vec<String> {
        let mut names = std::mem::take(&mut *self.ran.lock().unwrap());
        names.sort();
        names
    }

    pub fn outcome(&self, id: StepId) -> Option<Outcome> {
        self.ended.lock().unwrap().get(&id.index()).copied()
    }

    fn behave(&self, job: &Job<'_>) -> Result<Executed, FakeError> {
        let name = job.step.name.text.as_str();
        let tree = match self.behaviours.get(name) {
            None => tree(name),
            Some(Behaviour::Gives(other)) => tree(other),
            Some(Behaviour::Fails) => return Err(FakeError::Failed(name.to_owned())),
            Some(Behaviour::FailsBesideAnother) => {
                while self.running.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                return Err(FakeError::Failed(name.to_owned()));
            }
            Some(Behaviour::Cancels) => {
                self.cancel.cancel();
                return Err(FakeError::Cancelled);
            }
            Some(Behaviour::Hangs) => {
                while !job.cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                return Err(FakeError::Cancelled);
            }
        };
        let stdout = job.keep_output.then(|| format!("{name} says"));
        Ok(Executed {
            tree,
            stdout,
            took: None,
        })
    }
}

impl Executor<FakeError> for Fake {
    fn execute(&self, job: &Job<'_>) -> Result<Executed, FakeError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let executed = self.behave(job);
        self.ran.lock().unwrap().push(job.step.name.text.clone());
        self.running.fetch_sub(1, Ordering::SeqCst);
        executed
    }
}

impl SourceResolver<FakeError> for Fake {
    fn resolve(&self, _: &Job<'_>) -> Result<ResolvedSource, FakeError> {
        let entry = |path: &&str| Entry {
            node: Node::File {
                size: 1,
                digest: Digest::of(path.as_bytes()),
            },
            ..Entry::directory(ImagePath::new(path))
        };
        let directory = Directory {
            root: PathBuf::from("/nowhere"),
            manifest: Arc::new(self.files.iter().map(entry).collect::<Manifest>()),
        };
        Ok(ResolvedSource {
            result: StepResult::Directory(Arc::new(directory)),
            outcome: Outcome::Ran,
            revision: None,
        })
    }
}

impl ResultStore<FakeError> for Fake {
    fn result(&self, key: &StepKey) -> Result<Option<Filed>, FakeError> {
        Ok(self.stored.lock().unwrap().get(key).cloned())
    }

    fn file(&self, filed: &Filed, _: Origin<'_>) -> Result<(), FakeError> {
        self.stored.lock().unwrap().insert(filed.key, filed.clone());
        Ok(())
    }

    fn lock(&self, key: &StepKey, stop: &dyn Fn() -> bool) -> Result<Box<dyn Any>, FakeError> {
        let mut held = self.locks.held.lock().unwrap();
        while !held.insert(*key) {
            if stop() {
                return Err(FakeError::Cancelled);
            }
            let wait = Duration::from_millis(1);
            held = self.locks.freed.wait_timeout(held, wait).unwrap().0;
        }
        Ok(Box::new(Held(self.locks.clone(), *key)))
    }
}

impl Contents<FakeError> for Fake {
    fn import(&self, directory: &Directory) -> Result<TreeId, FakeError> {
        Ok(directory.manifest.id())
    }

    fn part(&self, snapshot: &Snapshot, path: &ImagePath) -> Result<Part, FakeError> {
        let name = Digest::of(format!("{} {path}", snapshot.content()).as_bytes());
        Ok(Part {
            content: ContentDigest(name),
            name: Some(name),
        })
    }

    fn selection(&self, _: &Step, copy: &CopyFiles, from: &StepResult) -> Result<Part, FakeError> {
        let content = match from {
            StepResult::Directory(directory) => {
                directory.content(&ImagePath::new(&copy.sources[0]))
            }
            StepResult::Snapshot(snapshot) => snapshot.content(),
        };
        Ok(Part {
            content,
            name: None,
        })
    }

    fn secret(&self, _: &str) -> Result<Option<ContentDigest>, FakeError> {
        Ok(None)
    }
}

impl SharedCaches for Fake {
    fn find(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        let found = self.shared.get(key)?;
        let fits = usable.allows(found.created, found.stdout.is_some());
        fits.then(|| found.clone())
    }

    fn offer(&self, _: StepId, step: &Step, _: &Filed, _: &[Part]) {
        self.offered.lock().unwrap().push(step.name.text.clone());
    }
}

/// The tree of a name.
pub fn tree(name: &str) -> TreeId {
    TreeId(Digest::of(name.as_bytes()))
}

/// A step by its name.
pub fn step(name: &str, op: Op) -> Step {
    Step {
        name: StepName {
            stage: "s".to_owned(),
            number: 1,
            of: 1,
            text: name.to_owned(),
        },
        ..Step::plain(name, op, Platform::host())
    }
}

/// A command whose root is its first input; the others are mounted.
pub fn command(name: &str, inputs: usize) -> Step {
    let others = (1u32..).take(inputs.saturating_sub(1));
    let mount = |input: u32| kiln_graph::Mount {
        target: ImagePath::new(format!("/{input}")),
        kind: kiln_graph::MountKind::Bind {
            from: Input(input),
            source: ImagePath::root(),
            writable: false,
        },
    };
    let exec = Exec {
        mounts: others.map(mount).collect(),
        ..Exec::new(Input(0), vec![name.to_owned()])
    };
    step(name, Op::Exec(Box::new(exec)))
}

/// A copy of one path of its only input.
pub fn copy(path: &str) -> Step {
    let copy = CopyFiles::new(Input(0), path, ImagePath::root());
    let files = Files {
        base: None,
        actions: vec![FileAction::Copy(Box::new(copy))],
    };
    step(&format!("copy {path}"), Op::Files(files))
}
