//! Runs ordered steps on the machine that this is: a worker of somebody's cluster, or a node.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_execute::{
    CommandExecutor, CommandOptions, DefaultNetwork, EngineError, FileExecutor, NoSecrets,
    SharedSources, Snapshotter, VolumeFinder,
};
use kiln_export::remote_tree;
use kiln_graph::{BlobDigest, ContextSource, Graph, Op, Step, StepId, Timestamp, TreeId};
use kiln_sandbox::{Sandbox, Selection};
use kiln_share::RemoteTree;
use kiln_solve::{Cancel, Event, EventSink, Executed, Executor, Job, Snapshot, StepResult};

use crate::live::LiveWriter;
use crate::order::{OrderedIds, OrderedInput, OrderedStep, snapshot_of};
use crate::report::{Log, StepEnd, StepReport, log_record};

/// Where what steps leave goes.
pub(crate) trait Outbox: Sync {
    /// Takes a blob of the machine's store.
    fn blob(&self, digest: &BlobDigest, size: u64, path: &Path) -> Result<(), String>;

    /// Takes a blob that isn't in the store; gives its digest.
    fn bytes(&self, bytes: &[u8]) -> Result<BlobDigest, String>;

    /// Takes what steps write, while they run (see [`crate::live`]). Nobody may listen.
    fn live(&self, bytes: &[u8]);
}

/// What steps are run with.
pub(crate) struct Bench<'a> {
    pub(crate) trees: Snapshotter,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) selection: &'a Selection,
    pub(crate) options: CommandOptions,
    /// Files written since then are known to be whole.
    pub(crate) since: Timestamp,
    pub(crate) outbox: &'a dyn Outbox,
    pub(crate) cancel: &'a Cancel,
    /// Tells what failed steps leave behind from that of other orders in the same store, where there are any.
    pub(crate) mark: Option<&'a str>,
    pub(crate) live: Mutex<LiveWriter>,
}

/// How ordered commands are run: with nothing of this machine but a network.
pub(crate) fn options(network: DefaultNetwork, ids: OrderedIds) -> CommandOptions {
    CommandOptions {
        network,
        cgroups: None,
        secrets: Arc::new(NoSecrets),
        allow_secrets_in: Vec::new(),
        refuse_ids: ids == OrderedIds::Same,
    }
}

impl Bench<'_> {
    /// Runs steps until one doesn't succeed.
    pub(crate) fn run(&self, steps: &[OrderedStep]) -> Result<Vec<StepReport>, String> {
        let mut reports = Vec::new();
        let mut results = Vec::new();
        for step in steps {
            let (report, result) = self.step(step, &results)?;
            reports.push(report);
            match result {
                Some(result) => results.push(result),
                None => break,
            }
        }
        Ok(reports)
    }

    /// Runs one step, on the results of those before it; its own result, if it has one.
    fn step(
        &self,
        ordered: &OrderedStep,
        before: &[StepResult],
    ) -> Result<(StepReport, Option<StepResult>), String> {
        let inputs = inputs(ordered, before)?;
        let (graph, id) = self.graph_of(&ordered.step, inputs.len())?;
        let heard = Heard::new(self, before.len());
        let job = Job {
            keep_output: ordered.keep_output,
            ..Job::alone(&graph, id, &inputs, &heard, self.cancel)
        };
        let started = Instant::now();
        let executed = self.execute(&job);
        let took = started.elapsed();
        let result = executed.as_ref().ok();
        let result = result.and_then(|executed| result_of(&job, &executed.tree));
        let end = match executed {
            Ok(executed) => self.ran(executed),
            Err(error) => {
                let left = self.left_behind(&error);
                StepEnd::of_error(error, left)
            }
        };
        let result = result.filter(|_| end.is_success());
        Ok((heard.report(end, took)?, result))
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        match &job.step.op {
            Op::Files(_) => FileExecutor(&self.trees).execute(job),
            _ => self.command(job),
        }
    }

    fn command(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        let shared = SharedSources::new(Vec::new(), self.trees.distant.clone(), Arc::new(|_| {}));
        let volumes = VolumeFinder {
            trees: &self.trees,
            keys: &BTreeMap::new(),
            shared: &shared,
            events: job.events,
        };
        let executor = CommandExecutor::new(
            &self.trees,
            self.sandbox,
            self.selection,
            &self.options,
            volumes,
            job.events,
        );
        executor.prepare(job)?;
        executor.execute(job)
    }

    fn ran(&self, executed: Executed) -> StepEnd {
        match self.pack(&executed.tree) {
            Ok(tree) => StepEnd::Ran {
                tree,
                stdout: executed.stdout,
            },
            Err(reason) => StepEnd::Unable { reason },
        }
    }

    /// What a failed step left behind.
    fn left_behind(&self, error: &EngineError) -> Option<RemoteTree> {
        let EngineError::Step(failure) = error else {
            return None;
        };
        self.pack(&failure.left?.tree).ok()
    }

    /// Puts a tree's blobs among the outputs.
    fn pack(&self, tree: &TreeId) -> Result<RemoteTree, String> {
        let packed = remote_tree(&self.trees, tree, self.since, &|_| {});
        let (tree, files) = packed.map_err(|error| error.to_string())?;
        for (digest, size, path) in files {
            self.outbox.blob(&digest, size, &path)?;
        }
        Ok(tree)
    }

    /// A graph of one step: what it is made from is given.
    fn graph_of(&self, step: &Step, inputs: usize) -> Result<(Graph, StepId), String> {
        let mut graph = Graph::new();
        let op = match self.mark {
            None => Op::Scratch,
            Some(mark) => Op::Context(ContextSource {
                name: mark.to_owned(),
                ignore: Vec::new(),
            }),
        };
        let given = Step { op, ..step.clone() };
        let given = (0..inputs).map(|_| graph.add(given.clone(), Vec::new()));
        let given: Result<Vec<StepId>, _> = given.collect();
        let id = given.and_then(|given| graph.add(step.clone(), given));
        let id = id.map_err(|error| error.to_string())?;
        Ok((graph, id))
    }
}

fn inputs(ordered: &OrderedStep, before: &[StepResult]) -> Result<Vec<StepResult>, String> {
    let input = |input: &OrderedInput| match input {
        OrderedInput::Layers(layers) => Ok(StepResult::Snapshot(snapshot_of(layers))),
        OrderedInput::Step(at) => {
            let result = before.get(*at).cloned();
            result.ok_or_else(|| format!("step {at} is ordered after one that is made from it"))
        }
    };
    ordered.inputs.iter().map(input).collect()
}

/// What a step is built on, with what it changed.
fn result_of(job: &Job<'_>, tree: &TreeId) -> Option<StepResult> {
    let base = match job.step.op.base() {
        None => Snapshot::scratch(),
        Some(input) => match job.input(input) {
            StepResult::Snapshot(snapshot) => snapshot.clone(),
            StepResult::Directory(_) => return None,
        },
    };
    Some(StepResult::Snapshot(base.with(&[*tree])))
}

/// What a step said and used.
struct Heard<'a> {
    state: Mutex<State>,
    bench: &'a Bench<'a>,
}

struct State {
    began: Instant,
    log: Vec<u8>,
    cpu: Duration,
    memory: u64,
    warnings: Vec<String>,
}

impl EventSink for Heard<'_> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Output { stream, bytes, .. } => {
                let millis = u32::try_from(state.began.elapsed().as_millis()).unwrap_or(u32::MAX);
                log_record(&mut state.log, stream, millis, &bytes);
                self.pass_on(|live| live.wrote(stream, millis, &bytes));
            }
            Event::Used { cpu, memory, .. } => {
                state.cpu += cpu;
                state.memory = state.memory.max(memory);
            }
            Event::Warning { message } => state.warnings.push(message),
            _ => {}
        }
    }
}

impl<'a> Heard<'a> {
    /// Of the step at a position, which begins.
    fn new(bench: &'a Bench<'a>, position: usize) -> Self {
        let heard = Self {
            state: Mutex::new(State {
                began: Instant::now(),
                log: Vec::new(),
                cpu: Duration::ZERO,
                memory: 0,
                warnings: Vec::new(),
            }),
            bench,
        };
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        heard.pass_on(|live| live.begins(position));
        heard
    }

    fn pass_on(&self, record: impl FnOnce(&mut LiveWriter) -> Vec<u8>) {
        let live = self.bench.live.lock();
        let mut live = live.unwrap_or_else(PoisonError::into_inner);
        self.bench.outbox.live(&record(&mut live));
    }

    fn report(self, end: StepEnd, took: Duration) -> Result<StepReport, String> {
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(StepReport {
            end,
            log: log_blob(&state.log, self.bench.outbox)?,
            took: millis(took),
            cpu: millis(state.cpu),
            memory: state.memory,
            warnings: state.warnings,
        })
    }
}

fn log_blob(bytes: &[u8], outbox: &dyn Outbox) -> Result<Option<Log>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Log {
        blob: outbox.bytes(bytes)?,
        size: bytes.len() as u64,
    }))
}
