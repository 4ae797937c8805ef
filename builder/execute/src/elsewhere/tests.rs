//! Steps in two places, with fakes in both: nothing is run, and nothing depends on how fast.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use kiln_cache::{Options, Store};
use kiln_graph::{Digest, Exec, Graph, Input, Platform, Step, TreeId};
use kiln_image::{Client, ClientOptions};
use kiln_solve::{Cancel, StepRef, Stream};

use super::*;
use crate::StepFailure;

/// What a step does that is run by a fake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Does {
    /// It gives a result.
    #[default]
    Gives,
    /// It says that it runs on a worker, and gives a result when it is released.
    WaitsForRelease,
    /// It waits for a worker until it is cancelled.
    Queues,
    /// It fails as the step would anywhere.
    Fails,
    /// It couldn't be run in this place.
    Breaks,
    /// It is a defect of kiln's.
    Panics,
}

/// What runs steps in one place.
#[derive(Default)]
struct Fake {
    does: Does,
    moves: Moves,
    race_after: Option<Duration>,
    running: AtomicUsize,
    most: AtomicUsize,
    ran: AtomicUsize,
    cancelled: AtomicUsize,
    released: Mutex<bool>,
    changed: Condvar,
}

impl Fake {
    fn does(does: Does) -> Self {
        Self {
            does,
            ..Self::default()
        }
    }

    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::SeqCst)
    }

    fn run(&self, job: &Job<'_>, place: &str) -> Result<There, EngineError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        _ = self.most.fetch_max(now, Ordering::SeqCst);
        let outcome = self.behave(job, place);
        _ = self.running.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    fn behave(&self, job: &Job<'_>, place: &str) -> Result<There, EngineError> {
        job.events.event(Event::Output {
            step: job.id.into(),
            stream: Stream::Stdout,
            bytes: format!("{place} ").into_bytes(),
        });
        match self.does {
            Does::Gives => {}
            Does::WaitsForRelease => {
                let on_worker = Event::Placed {
                    step: job.id.into(),
                    place: Some(place.to_owned()),
                    reason: None,
                    queued: None,
                    waiting: false,
                };
                job.events.event(on_worker);
                self.wait(job, |released| released)?;
            }
            Does::Queues => self.wait(job, |_| false)?,
            Does::Fails => return Err(failure()),
            Does::Breaks if place == "there" => return Ok(There::Not("it is out of order".into())),
            Does::Breaks => return Err(EngineError::Defect("no sandbox".into())),
            Does::Panics => panic!("on purpose"),
        }
        _ = self.ran.fetch_add(1, Ordering::SeqCst);
        Ok(There::Ran(Executed {
            tree: TreeId(Digest::of(place.as_bytes())),
            stdout: None,
            took: None,
        }))
    }

    fn wait(&self, job: &Job<'_>, is_over: impl Fn(bool) -> bool) -> Result<(), EngineError> {
        let mut released = self.released.lock().unwrap();
        while !is_over(*released) {
            if job.cancel.is_cancelled() {
                _ = self.cancelled.fetch_add(1, Ordering::SeqCst);
                return Err(EngineError::Cancelled);
            }
            let wait = Duration::from_millis(2);
            released = self.changed.wait_timeout(released, wait).unwrap().0;
        }
        Ok(())
    }
}

fn failure() -> EngineError {
    EngineError::Step(Box::new(StepFailure {
        name: "step".to_owned(),
        command: "false".to_owned(),
        how: "exit code: 1".to_owned(),
        location: None,
        last_output: String::new(),
        changed: crate::ChangedFiles::default(),
        left: None,
    }))
}

impl Elsewhere for Fake {
    fn slots(&self) -> usize {
        64
    }

    fn moves(&self, _: &Job<'_>, _: &Around<'_>) -> Option<Moves> {
        Some(self.moves)
    }

    fn race_after(&self) -> Option<Duration> {
        self.race_after
    }

    fn stays(&self, _: &Job<'_>, _: &Around<'_>) -> Option<String> {
        None
    }

    fn early(&self, _: &Job<'_>, _: &Around<'_>) -> Result<Option<Executed>, EngineError> {
        Ok(None)
    }

    fn execute(&self, job: &Job<'_>, _: &Around<'_>) -> Result<There, EngineError> {
        self.run(job, "there")
    }
}

impl Executor<EngineError> for Fake {
    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        match self.run(job, "here")? {
            There::Ran(executed) => Ok(executed),
            There::Not(reason) => Err(EngineError::Defect(reason)),
        }
    }
}

/// What came of some steps that were run at once.
struct Came {
    results: Vec<Result<Executed, EngineError>>,
    output: String,
}

impl Came {
    /// How many results come from a place.
    fn from(&self, place: &str) -> usize {
        let tree = TreeId(Digest::of(place.as_bytes()));
        let results = self.results.iter().flatten();
        results.filter(|executed| executed.tree == tree).count()
    }
}

/// Runs steps at once, each on a thread; `meanwhile` is called on another.
fn run(
    count: usize,
    here: &Fake,
    there: &dyn Elsewhere,
    at_once: AtOnce,
    meanwhile: impl Fn() + Sync,
) -> Came {
    let directory = tempfile::tempdir().unwrap();
    let trees = Snapshotter {
        store: Store::open(directory.path(), Options::default()).unwrap(),
        client: Client::new(ClientOptions::default()),
        gives_away: false,
        distant: Arc::default(),
        deltas: Arc::default(),
    };
    let around = Around {
        trees: &trees,
        network: DefaultNetwork::None,
    };
    let executor = ElsewhereExecutor::new(there, here, here, around, at_once);
    let (graph, ids) = independent(count);
    let output = Mutex::new(String::new());
    let events = |event: Event| {
        if let Event::Output { bytes, .. } = event {
            output
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let cancel = Cancel::new();
    let run = |id: &StepId| {
        let job = Job::alone(&graph, *id, &[], &events, &cancel);
        executor.prepare(&job)?;
        executor.execute(&job)
    };
    let results = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(move || run(id))).collect();
        scope.spawn(&meanwhile);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let output = output.into_inner().unwrap();
    Came { results, output }
}

/// So many commands that need none of each other.
fn independent(count: usize) -> (Graph, Vec<StepId>) {
    let mut graph = Graph::new();
    let root = graph.add(step("root", Op::Scratch), Vec::new()).unwrap();
    let command = |at: usize| {
        let name = at.to_string();
        let exec = Exec::new(Input(0), vec![name.clone()]);
        let exec = step(&name, Op::Exec(Box::new(exec)));
        graph.add(exec, vec![root]).unwrap()
    };
    let ids = (0..count).map(command).collect();
    (graph, ids)
}

fn step(name: &str, op: Op) -> Step {
    Step::plain(name, op, Platform::host())
}

fn wait_for(done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::yield_now();
    }
}

const TWO_EACH: AtOnce = AtOnce { here: 2, there: 2 };
const LARGE: u64 = 300 << 20;

#[test]
fn steps_run_in_both_places_at_once_and_never_too_many() {
    let here = Fake::does(Does::WaitsForRelease);
    let there = Fake::does(Does::WaitsForRelease);
    let came = run(12, &here, &there, TWO_EACH, || {
        // All four places are taken before anything ends.
        let running = |fake: &Fake| fake.running.load(Ordering::SeqCst);
        wait_for(|| running(&here) == 2 && running(&there) == 2);
        here.release();
        there.release();
    });
    assert_eq!(came.from("here") + came.from("there"), 12);
    assert_eq!(here.most.load(Ordering::SeqCst), 2);
    assert_eq!(there.most.load(Ordering::SeqCst), 2);
}

#[test]
fn steps_wait_for_the_place_where_large_inputs_are() {
    for (moves, place) in [
        (
            Moves {
                here: 0,
                there: LARGE,
            },
            "here",
        ),
        (
            Moves {
                here: LARGE,
                there: 0,
            },
            "there",
        ),
    ] {
        let here = Fake::default();
        let there = Fake {
            moves,
            ..Fake::default()
        };
        let came = run(9, &here, &there, TWO_EACH, || {});
        assert_eq!(came.from(place), 9, "{moves:?}");
    }
}

#[test]
fn a_cluster_without_workers_leaves_steps_to_this_machine() {
    let at_once = AtOnce {
        here: 1,
        there: 100,
    };
    let here = Fake::default();
    let there = Fake {
        race_after: Some(Duration::ZERO),
        ..Fake::does(Does::Queues)
    };
    let came = run(20, &here, &there, at_once, || {});
    // Those that wait there are done here as soon as there is room.
    assert_eq!(came.from("here"), 20);
    assert!(there.most.load(Ordering::SeqCst) <= 8);
}

#[test]
fn who_is_first_wins_and_only_he_is_heard() {
    let race_after = Some(Duration::ZERO);
    // The cluster is late.
    let here = Fake::default();
    let there = Fake {
        race_after,
        ..Fake::does(Does::WaitsForRelease)
    };
    let came = run(1, &here, &there, TWO_EACH, || {});
    assert_eq!((came.from("here"), there.ran()), (1, 0));
    assert_eq!(there.cancelled.load(Ordering::SeqCst), 1);
    // As many bytes as were shown of the other are taken as shown.
    assert_eq!(came.output, "there ");
    // This machine is late.
    let here = Fake::does(Does::WaitsForRelease);
    let there = Fake {
        race_after,
        moves: Moves {
            here: 0,
            there: LARGE,
        },
        ..Fake::default()
    };
    let came = run(1, &here, &there, TWO_EACH, || {});
    assert_eq!((came.from("there"), here.ran()), (1, 0));
    assert_eq!(here.cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(came.output, "here  ");
    // Without being asked for, nothing is run twice.
    let (here, there) = (Fake::default(), Fake::does(Does::WaitsForRelease));
    let came = run(1, &here, &there, TWO_EACH, || {
        wait_for(|| there.running.load(Ordering::SeqCst) == 1);
        there.release();
    });
    assert_eq!((came.from("there"), here.ran()), (1, 0));
}

#[test]
fn a_race_ends_with_the_steps_own_failure_not_with_that_of_a_place() {
    let race_after = Some(Duration::ZERO);
    let late = |does| Fake {
        race_after,
        ..Fake::does(does)
    };
    // The step fails wherever it runs.
    let (here, there) = (Fake::does(Does::Fails), late(Does::Queues));
    let came = run(1, &here, &there, TWO_EACH, || {});
    assert!(matches!(came.results[0], Err(EngineError::Step(_))));
    assert_eq!(there.cancelled.load(Ordering::SeqCst), 1);
    // This machine can't run it, and the cluster does.
    let (here, there) = (Fake::does(Does::Breaks), late(Does::WaitsForRelease));
    let came = run(1, &here, &there, TWO_EACH, || {
        wait_for(|| here.most.load(Ordering::SeqCst) == 1);
        there.release();
    });
    assert_eq!(came.from("there"), 1);
    // The cluster can't, and this machine does.
    let (here, there) = (Fake::default(), late(Does::Breaks));
    let came = run(1, &here, &there, TWO_EACH, || {});
    assert_eq!(came.from("here"), 1);
}

#[test]
fn a_race_ends_when_one_of_its_runs_panics() {
    let (here, there) = (
        Fake::does(Does::Panics),
        Fake {
            race_after: Some(Duration::ZERO),
            ..Fake::does(Does::Queues)
        },
    );
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(1, &here, &there, TWO_EACH, || {})
    }));
    assert!(ran.is_err());
    assert_eq!(there.cancelled.load(Ordering::SeqCst), 1);
}

#[test]
fn a_chain_that_went_on_is_not_overtaken() {
    /// A worker that has begun the step after this one, and ends when it is told.
    struct WentOn<'a>(&'a Fake);
    impl Elsewhere for WentOn<'_> {
        fn slots(&self) -> usize {
            1
        }
        fn moves(&self, _: &Job<'_>, _: &Around<'_>) -> Option<Moves> {
            Some(Moves::default())
        }
        fn race_after(&self) -> Option<Duration> {
            Some(Duration::ZERO)
        }
        fn stays(&self, _: &Job<'_>, _: &Around<'_>) -> Option<String> {
            None
        }
        fn early(&self, _: &Job<'_>, _: &Around<'_>) -> Result<Option<Executed>, EngineError> {
            Ok(None)
        }
        fn execute(&self, job: &Job<'_>, _: &Around<'_>) -> Result<There, EngineError> {
            let next = StepRef(StepRef::from(job.id).0 + 1);
            job.events.event(Event::Started { step: next });
            std::thread::sleep(Duration::from_millis(200));
            self.0.run(job, "there")
        }
    }
    let (here, there) = (Fake::default(), Fake::default());
    let went_on = WentOn(&there);
    let came = run(1, &here, &went_on, TWO_EACH, || {});
    assert_eq!((came.from("there"), here.ran()), (1, 0));
}
