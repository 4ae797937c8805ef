//! Runs commands on a cluster's workers.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_cache::Store;
use kiln_execute::{Around, DefaultNetwork, Elsewhere, EngineError, Moves, There, now};
use kiln_graph::{Op, Step, StepKey, Timestamp, TreeId};
use kiln_share::{CacheSource, CacheTrust, RemoteTree};
use kiln_solve::{Executed, Filed, Job, LayerRef, Snapshot, StepResult};

use crate::action::{OrderedAction, properties};
use crate::chain::{Chain, is_small};
use crate::connection::Connection;
use crate::dispatch::Dispatch;
use crate::early::{Early, EarlyResults, Unable};
use crate::failure::Failure;
use crate::helpers::Helpers;
use crate::inputs::{Inputs, Origin};
use crate::kept;
use crate::known::KnownTrees;
use crate::moves::{Counter, Seen};
use crate::order::{ORDER, Order, OrderedIds, VERSION};
use crate::outputs::{Given, Outputs};
use crate::placement::obstacle;
use crate::progress::{Watch, placed};
use crate::results::Results;
use crate::{ClusterError, ExecutorSettings, IdsChoice, PlaceChoice, ReapiRemote};

/// A cluster that fails so often is asked no more by this build.
const MAX_FAILURES: u32 = 3;

/// Runs commands on a cluster's workers.
pub struct ClusterExecutor {
    settings: ExecutorSettings,
    /// What the cluster is called.
    server: String,
    remote: Arc<ReapiRemote>,
    /// The same, as what trees are fetched from.
    source: CacheSource,
    helpers: Helpers,
    known: KnownTrees,
    seen: Seen,
    sending: Mutex<()>,
    /// What steps gave before it was their turn.
    early: EarlyResults,
    /// Steps that its workers can't run.
    unable: Unable,
    failures: AtomicU32,
    /// Whether files are brought here that nobody here needs yet.
    brings_all: AtomicBool,
    /// Files written since then are known to be whole.
    since: Timestamp,
}

impl fmt::Debug for ClusterExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterExecutor({})", self.server)
    }
}

impl Elsewhere for ClusterExecutor {
    fn stays(&self, job: &Job<'_>, around: &Around<'_>) -> Option<String> {
        self.obstacle(job.step, around)
            .or_else(|| self.unable.reason(&job.definition))
            .or_else(|| self.given_up())
    }

    fn slots(&self) -> usize {
        self.settings.jobs
    }

    fn moves(&self, job: &Job<'_>, around: &Around<'_>) -> Option<Moves> {
        let is_asked_for = !job.step.remote.is_empty();
        if self.settings.required || self.settings.place == PlaceChoice::Cluster || is_asked_for {
            return None;
        }
        let counter = Counter {
            connection: self.remote.connection().ok()?,
            known: &self.known,
            seen: &self.seen,
            around,
        };
        counter.count(job)
    }

    fn race_after(&self) -> Option<Duration> {
        self.settings.race_after
    }

    fn has_early(&self, job: &Job<'_>) -> bool {
        self.early.has(job)
    }

    fn early(&self, job: &Job<'_>, around: &Around<'_>) -> Result<Option<Executed>, EngineError> {
        let Some(early) = self.early.take(job) else {
            return Ok(None);
        };
        let Ok(connection) = self.remote.connection() else {
            return Ok(None);
        };
        let Early {
            given,
            report,
            shown,
            ..
        } = early;
        job.events
            .event(placed(job.id.into(), &self.server, Some(&given)));
        let results = self.results(connection, job, around, &given);
        match results.take(report, shown) {
            Ok(executed) => Ok(Some(executed)),
            Err(Failure::Step(error)) => Err(error),
            // It is run by itself then.
            Err(Failure::Cluster(_)) => Ok(None),
        }
    }

    fn execute(&self, job: &Job<'_>, around: &Around<'_>) -> Result<There, EngineError> {
        match self.attempt(job, around) {
            Ok(executed) => Ok(There::Ran(executed)),
            Err(Failure::Step(error)) => Err(error),
            Err(Failure::Cluster(error)) if self.settings.required => Err(self.fail(job, error)),
            Err(Failure::Cluster(error)) => {
                let weight = error.weight(MAX_FAILURES);
                _ = self.failures.fetch_add(weight, Ordering::SeqCst);
                Ok(There::Not(format!("{}: {error}", self.server)))
            }
        }
    }

    /// As long as what else it needs is small, or there as well.
    fn carries(&self, job: &Job<'_>, around: &Around<'_>) -> bool {
        let is_left = |result: &StepResult| match result {
            StepResult::Snapshot(snapshot) => self.has_left(snapshot, around),
            StepResult::Directory(_) => false,
        };
        let may_go = self.stays(job, around).is_none() && job.inputs.iter().all(is_small);
        may_go && job.inputs.iter().any(is_left)
    }

    fn find(&self, key: &StepKey, around: &Around<'_>) -> Option<Filed> {
        if self.brings_all.load(Ordering::SeqCst) || self.given_up().is_some() {
            return None;
        }
        let record = kept::recall(&around.trees.store, &self.server, key)?;
        let connection = self.remote.connection().ok()?;
        let blobs = record.output.iter().flat_map(kept::blobs);
        let missing = connection.storage.missing(blobs);
        let missing = connection.runtime.block_on(missing).ok()?;
        if !missing.is_empty() {
            return None;
        }
        for tree in &record.output {
            around.trees.distant.add(tree.clone(), &self.source);
            self.known.add(tree.clone());
        }
        Some(kept::filed(&record))
    }

    fn note(&self, filed: &Filed, around: &Around<'_>) {
        let store = &around.trees.store;
        let is_here = |id: &TreeId| is_here(store, id);
        let output = filed.added.iter().map(|id| self.known.get(id));
        let output: Option<Vec<RemoteTree>> = output.collect();
        if let Some(output) = output.filter(|_| !filed.added.iter().all(is_here)) {
            kept::remember(store, &self.server, filed, output);
        }
    }

    fn keep_nothing(&self) -> bool {
        !self.brings_all.swap(true, Ordering::SeqCst)
    }
}

fn is_here(store: &Store, id: &TreeId) -> bool {
    store.trees().get(id).is_ok_and(|tree| tree.is_some())
}

impl ClusterExecutor {
    /// Whether files of a root filesystem are in the cluster only.
    fn has_left(&self, snapshot: &Snapshot, around: &Around<'_>) -> bool {
        snapshot.layers().iter().any(|layer| match layer {
            LayerRef::Tree(id) => self.known.get(id).is_some() && !is_here(&around.trees.store, id),
            LayerRef::Image { .. } => false,
        })
    }

    /// Runs commands on a cluster. Nothing is connected to before the first.
    #[must_use]
    pub fn new(settings: ExecutorSettings) -> Self {
        let remote = Arc::new(ReapiRemote::new(settings.server.clone()));
        Self {
            server: settings.server.to_string(),
            brings_all: AtomicBool::new(settings.brings_outputs),
            source: CacheSource::new(remote.clone(), CacheTrust::default()),
            helpers: Helpers::new(settings.helpers.clone()),
            settings,
            remote,
            known: KnownTrees::default(),
            seen: Seen::default(),
            sending: Mutex::default(),
            early: EarlyResults::default(),
            unable: Unable::default(),
            failures: AtomicU32::new(0),
            since: now(),
        }
    }

    /// That the cluster has failed too often.
    fn given_up(&self) -> Option<String> {
        let failures = self.failures.load(Ordering::SeqCst);
        let stopped = failures >= MAX_FAILURES && !self.settings.required;
        stopped.then(|| format!("{} failed, and is asked no more", self.server))
    }

    /// Why a step can't be sent.
    fn obstacle(&self, step: &Step, around: &Around<'_>) -> Option<String> {
        let own = match &step.op {
            Op::Exec(exec) => {
                let has_network = around.network != DefaultNetwork::None;
                obstacle(step, exec, has_network, self.settings.network)
            }
            _ => None,
        };
        own.or_else(|| self.helpers.obstacle(&step.platform.architecture))
    }

    fn fail(&self, job: &Job<'_>, error: ClusterError) -> EngineError {
        EngineError::Custom {
            name: format!("{} on {}", job.step.name, self.server),
            location: job.step.location.clone(),
            fault: error.fault(),
            source: Box::new(error),
        }
    }

    /// Runs a step, and those after it that may go with it.
    fn attempt(&self, job: &Job<'_>, around: &Around<'_>) -> Result<Executed, Failure> {
        let connection = self.remote.connection()?;
        if !connection.capabilities.executes {
            return Err(ClusterError::NoExecution.into());
        }
        let may_join = |step: &Step| self.obstacle(step, around).is_none();
        let chain = Chain::of(job, &may_join);
        let known = |id: &TreeId| self.known.get(id);
        let from = Origin {
            trees: around.trees,
            known: &known,
            since: self.since,
            events: job.events,
        };
        let mut inputs = self.inputs(&chain, around, from)?;
        let action = self.action(&chain, &inputs);
        let dispatch = Dispatch {
            settings: &self.settings,
            server: &self.server,
            connection,
            sending: &self.sending,
            job,
            from,
        };
        let mut watch = Watch::new(job, &chain, self.server.clone());
        let result = dispatch.run(&mut inputs, &action, &mut watch)?;
        let read = Outputs::read(&connection.storage, &result, chain.len());
        let read = connection.wait(job.cancel, read);
        let architecture = chain.architecture();
        let read = read.map_err(|error| self.helpers.explained(error, architecture));
        self.ran(connection, job, around, &chain, read?, watch.into_shown())
    }

    /// Takes what came of the first step of a chain, and keeps the rest until its turn.
    fn ran(
        &self,
        connection: &Connection,
        job: &Job<'_>,
        around: &Around<'_>,
        chain: &Chain<'_>,
        outputs: Outputs,
        shown: Vec<u64>,
    ) -> Result<Executed, Failure> {
        let Outputs { given, report } = outputs;
        job.events
            .event(placed(job.id.into(), &self.server, Some(&given)));
        let mut steps = report.steps.into_iter().zip(shown);
        let Some((first, shown)) = steps.next() else {
            return Err(given.wrong("its report is about no step").into());
        };
        let results = self.results(connection, job, around, &given);
        let executed = results.take(first, shown)?;
        let early = chain.early(around, &executed.tree, &given, steps.collect())?;
        self.early.add(early);
        Ok(executed)
    }

    fn results<'a>(
        &'a self,
        connection: &'a Connection,
        job: &'a Job<'a>,
        around: &'a Around<'a>,
        given: &'a Given,
    ) -> Results<'a> {
        Results {
            server: &self.server,
            connection,
            source: &self.source,
            known: &self.known,
            unable: &self.unable,
            brings_all: self.brings_all.load(Ordering::SeqCst),
            job,
            around,
            given,
        }
    }

    /// The inputs of an action that runs a chain.
    fn inputs(
        &self,
        chain: &Chain<'_>,
        around: &Around<'_>,
        from: Origin<'_>,
    ) -> Result<Inputs, Failure> {
        let mut inputs = Inputs::default();
        if let Some(helper) = self.helpers.of(chain.architecture())? {
            inputs.add_helper(helper);
        }
        let steps = chain.ordered(&mut |result| {
            let snapshot = around.trees.snapshot(result)?;
            inputs.add_snapshot(&snapshot, from)?;
            Ok(snapshot)
        })?;
        let order = Order {
            version: VERSION,
            ids: match (around.trees.gives_away, self.settings.ids) {
                (false, _) | (true, IdsChoice::One) => OrderedIds::One,
                (true, IdsChoice::Same) => OrderedIds::Same,
                (true, IdsChoice::All) => OrderedIds::All,
            },
            network: around.network.into(),
            trees: inputs.trees.values().cloned().collect(),
            steps,
        };
        let text = serde_json::to_vec(&order);
        let text = text.map_err(|error| EngineError::Defect(error.to_string()))?;
        inputs.add_bytes(ORDER, text);
        Ok(inputs)
    }

    fn action(&self, chain: &Chain<'_>, inputs: &Inputs) -> OrderedAction {
        let given = &self.settings.properties;
        let properties = properties(chain.architecture(), given, chain.properties());
        OrderedAction::new(&inputs.root, &properties, chain.timeout())
    }
}
