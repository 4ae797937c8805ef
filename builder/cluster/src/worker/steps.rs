//! Runs the ordered steps with a store of the worker's own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_cache::{Options, OverlayXattrs, Store};
use kiln_execute::{
    CommandExecutor, CommandOptions, EngineError, FileExecutor, NoSecrets, SharedSources,
    Snapshotter, VolumeFinder, failed_tree, now, parallel,
};
use kiln_export::remote_tree;
use kiln_graph::{BlobDigest, Graph, ImageLayer, Op, Step, StepId, Timestamp, TreeId};
use kiln_image::{Client, ClientOptions};
use kiln_sandbox::{Identity, Privileges, Sandbox, Selection};
use kiln_share::{CacheSource, CacheTrust, RemoteTree};
use kiln_solve::{Cancel, Event, EventSink, Executed, Executor, Job, Snapshot, StepResult};
use kiln_tree::host;

use super::packed::PackedBlobs;
use super::scratch::Scratch;
use crate::live::LiveWriter;
use crate::order::{BLOBS, Order, OrderedIds, OrderedInput, OrderedStep, snapshot_of};
use crate::report::{Log, OUT, StepEnd, StepReport, log_record};

/// Runs steps until one doesn't succeed.
pub(super) fn run(
    order: &Order,
    privileges: Privileges,
    scratch: &Scratch,
) -> Result<Vec<StepReport>, String> {
    let trees = trees(order, &privileges, scratch).map_err(|error| error.to_string())?;
    unpack_layers(order, &trees).map_err(|error| error.to_string())?;
    host::create_dir_all(Path::new(OUT).join(BLOBS)).map_err(|error| error.to_string())?;
    let machine = Machine {
        trees,
        sandbox: Sandbox::of_this_program(),
        selection: Selection::new(privileges),
        options: CommandOptions {
            network: order.network.into(),
            cgroups: None,
            secrets: Arc::new(NoSecrets),
            allow_secrets_in: Vec::new(),
            refuse_ids: order.ids == OrderedIds::Same,
        },
        since: now(),
        live: Mutex::default(),
    };
    let mut reports = Vec::new();
    let mut results = Vec::new();
    for step in &order.steps {
        let (report, result) = machine.run(step, &results)?;
        reports.push(report);
        match result {
            Some(result) => results.push(result),
            None => break,
        }
    }
    Ok(reports)
}

/// A store in the scratch directory, which knows the ordered trees.
fn trees(
    order: &Order,
    privileges: &Privileges,
    scratch: &Scratch,
) -> Result<Snapshotter, EngineError> {
    let xattrs = match privileges.identity {
        Identity::Root => OverlayXattrs::Trusted,
        _ => OverlayXattrs::User,
    };
    let options = Options {
        xattrs,
        ..Options::default()
    };
    let trees = Snapshotter {
        store: Store::open(scratch.path(), options)?,
        client: Client::new(ClientOptions::default()),
        gives_away: order.ids != OrderedIds::One && privileges.identity.gives_away(),
        distant: Arc::default(),
        deltas: Arc::default(),
    };
    let source = CacheSource::new(Arc::new(PackedBlobs), CacheTrust::default());
    for tree in &order.trees {
        trees.distant.add(tree.clone(), &source);
    }
    Ok(trees)
}

/// Unpacks the layers of images, side by side.
fn unpack_layers(order: &Order, trees: &Snapshotter) -> Result<(), EngineError> {
    let layers = order.image_layers().map(|layer| (layer.diff_id, layer));
    let distinct: BTreeMap<BlobDigest, &ImageLayer> = layers.collect();
    let layers: Vec<&ImageLayer> = distinct.into_values().collect();
    let unpacked = parallel::map(&layers, |layer| PackedBlobs::unpack(trees, layer))?;
    drop(unpacked);
    Ok(())
}

/// What steps are run with.
struct Machine {
    trees: Snapshotter,
    sandbox: Sandbox,
    selection: Selection,
    options: CommandOptions,
    /// Files written since then are known to be whole.
    since: Timestamp,
    /// What steps write is passed on: servers that stream it show them at work.
    live: Mutex<LiveWriter>,
}

impl Machine {
    /// Runs one step, on the results of those before it; its own result, if it has one.
    fn run(
        &self,
        ordered: &OrderedStep,
        before: &[StepResult],
    ) -> Result<(StepReport, Option<StepResult>), String> {
        let inputs = inputs(ordered, before)?;
        let (graph, id) = graph_of(&ordered.step, inputs.len())?;
        let heard = Heard::new(&self.live, before.len());
        let job = Job {
            id,
            definition: graph.definition(id),
            step: graph.step(id),
            inputs: &inputs,
            keep_output: ordered.keep_output,
            ahead: None,
            events: &heard,
            cancel: &Cancel::new(),
        };
        let started = Instant::now();
        let executed = self.execute(&job);
        let took = started.elapsed();
        let result = executed.as_ref().ok();
        let result = result.and_then(|executed| result_of(&job, &executed.tree));
        let end = match executed {
            Ok(executed) => self.ran(executed),
            Err(error) => StepEnd::of_error(error, self.left_behind(&graph, id)),
        };
        let result = result.filter(|_| matches!(end, StepEnd::Ran { .. }));
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
            &self.sandbox,
            &self.selection,
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
    fn left_behind(&self, graph: &Graph, id: StepId) -> Option<RemoteTree> {
        let tree = failed_tree(&self.trees.store, graph, id).ok()??;
        self.pack(&tree).ok()
    }

    /// Puts a tree's blobs among the outputs.
    fn pack(&self, tree: &TreeId) -> Result<RemoteTree, String> {
        let packed = remote_tree(&self.trees, tree, self.since, &|_| {});
        let (tree, files) = packed.map_err(|error| error.to_string())?;
        for (digest, _, path) in files {
            put_out(&digest.hex(), |out| {
                std::io::copy(&mut host::open(&path)?, out).map(drop)
            })?;
        }
        Ok(tree)
    }
}

/// Writes a blob among the outputs.
fn put_out(
    name: &str,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<(), String> {
    let path = Path::new(OUT).join(BLOBS).join(name);
    let mut done = host::create(&path);
    let written = match &mut done {
        Ok(file) => write(file),
        Err(_) => done.map(drop),
    };
    written.map_err(|error| format!("{} can't be written: {error}", path.display()))
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

/// A graph of one step: what it is made from is given.
fn graph_of(step: &Step, inputs: usize) -> Result<(Graph, StepId), String> {
    let mut graph = Graph::new();
    let given = Step {
        op: Op::Scratch,
        ..step.clone()
    };
    let given = (0..inputs).map(|_| graph.add(given.clone(), Vec::new()));
    let given: Result<Vec<StepId>, _> = given.collect();
    let id = given.and_then(|given| graph.add(step.clone(), given));
    let id = id.map_err(|error| error.to_string())?;
    Ok((graph, id))
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
    live: &'a Mutex<LiveWriter>,
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
    fn new(live: &'a Mutex<LiveWriter>, position: usize) -> Self {
        let heard = Self {
            state: Mutex::new(State {
                began: Instant::now(),
                log: Vec::new(),
                cpu: Duration::ZERO,
                memory: 0,
                warnings: Vec::new(),
            }),
            live,
        };
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        heard.pass_on(|live| live.begins(position));
        heard
    }

    /// Writes to the action's standard output. Nobody may listen.
    fn pass_on(&self, record: impl FnOnce(&mut LiveWriter) -> Vec<u8>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::io::stdout().lock();
        _ = out.write_all(&record(&mut live));
        _ = out.flush();
    }

    fn report(self, end: StepEnd, took: Duration) -> Result<StepReport, String> {
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(StepReport {
            end,
            log: log_blob(&state.log)?,
            took: millis(took),
            cpu: millis(state.cpu),
            memory: state.memory,
            warnings: state.warnings,
        })
    }
}

fn log_blob(bytes: &[u8]) -> Result<Option<Log>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let blob = BlobDigest::of(bytes);
    put_out(&blob.hex(), |out| out.write_all(bytes))?;
    let size = bytes.len() as u64;
    Ok(Some(Log { blob, size }))
}
