//! Runs commands on a cluster's workers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2::ActionResult;
use kiln_execute::{
    Around, ChangedFiles, DefaultNetwork, Distant, Elsewhere, EngineError, StepFailure, There, now,
};
use kiln_graph::{Op, Platform, Step, Timestamp, TreeId};
use kiln_share::{CacheSource, CacheTrust, RemoteTree};
use kiln_solve::{Event, Executed, Job};
use tokio::sync::Notify;

use crate::action::{OrderedAction, properties};
use crate::chain::Chain;
use crate::connection::Connection;
use crate::early::{Early, EarlyResults, Unable};
use crate::execution::Execution;
use crate::helper::Helper;
use crate::inputs::{Inputs, Origin};
use crate::order::{ORDER, Order, OrderedIds, VERSION};
use crate::outputs::{Given, Outputs, printable};
use crate::placement::{NetworkChoice, obstacle};
use crate::report::{MAX_STDOUT, StepEnd, StepReport};
use crate::storage::{Content, Upload};
use crate::{ClusterError, ReapiRemote, ReapiSettings};

/// A cluster that fails so often is asked no more by this build.
const MAX_FAILURES: u32 = 3;
/// How many warnings of a worker about one step are shown.
const MAX_WARNINGS: usize = 8;
/// How long a step waits for a worker unless the user says otherwise.
const QUEUE_LIMIT: Duration = Duration::from_secs(600);

/// A cluster to run steps on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// The server.
    pub server: ReapiSettings,
    /// What a worker must offer: platform properties, as the cluster names them.
    pub properties: Vec<(String, String)>,
    /// Where steps run that may use a network.
    pub network: NetworkChoice,
    /// How long a step waits for a worker.
    pub queue_limit: Duration,
    /// Programs for workers besides the running one: kiln for other processors, or a static one.
    pub helpers: Vec<PathBuf>,
    /// Which user ids workers must have.
    pub ids: IdsChoice,
    /// Whether what fails there fails, where it could run here.
    pub required: bool,
}

/// Which user ids workers must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdsChoice {
    /// Those that a step needs for the result that it would have here.
    #[default]
    Same,
    /// All of them.
    All,
    /// One is enough: all files are owned by root then.
    One,
}

impl ExecutorSettings {
    /// A cluster, and usual settings.
    #[must_use]
    pub fn new(server: ReapiSettings) -> Self {
        Self {
            server,
            properties: Vec::new(),
            network: NetworkChoice::default(),
            queue_limit: QUEUE_LIMIT,
            helpers: Vec::new(),
            ids: IdsChoice::default(),
            required: false,
        }
    }
}

/// Runs commands on a cluster's workers.
pub struct ClusterExecutor {
    settings: ExecutorSettings,
    remote: Arc<ReapiRemote>,
    /// The same, as what trees are fetched from.
    source: CacheSource,
    helpers: OnceLock<Result<Vec<Helper>, ClusterError>>,
    /// Trees that the cluster gave.
    known: Mutex<BTreeMap<TreeId, RemoteTree>>,
    /// What steps gave before it was their turn.
    early: EarlyResults,
    /// Steps that its workers can't run.
    unable: Unable,
    failures: AtomicU32,
    /// Files written since then are known to be whole.
    since: Timestamp,
}

impl fmt::Debug for ClusterExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterExecutor({})", self.settings.server)
    }
}

/// Why a step has no result of a cluster.
enum Failure {
    /// The step's own failure, or that it was cancelled.
    Step(EngineError),
    Cluster(ClusterError),
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Cancelled => Self::Step(EngineError::Cancelled),
            other => Self::Cluster(other),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Step(error)
    }
}

impl Elsewhere for ClusterExecutor {
    fn stays(&self, job: &Job<'_>, around: &Around<'_>) -> Option<String> {
        self.obstacle(job.step, around)
            .or_else(|| self.unable.reason(&job.definition))
            .or_else(|| self.given_up())
    }

    fn early(&self, job: &Job<'_>, around: &Around<'_>) -> Result<Option<Executed>, EngineError> {
        let Some(Early { given, report, .. }) = self.early.take(job) else {
            return Ok(None);
        };
        let Ok(connection) = self.remote.connection() else {
            return Ok(None);
        };
        self.placed(job, Some(&given));
        match self.take(connection, job, around, &given, report) {
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
                Ok(There::Not(format!("{}: {error}", self.settings.server)))
            }
        }
    }
}

impl ClusterExecutor {
    /// Runs commands on a cluster. Nothing is connected to before the first.
    #[must_use]
    pub fn new(settings: ExecutorSettings) -> Self {
        let remote = Arc::new(ReapiRemote::new(settings.server.clone()));
        Self {
            source: CacheSource::new(remote.clone(), CacheTrust::default()),
            settings,
            remote,
            helpers: OnceLock::new(),
            known: Mutex::default(),
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
        stopped.then(|| format!("{} failed, and is asked no more", self.settings.server))
    }

    fn helpers(&self) -> Result<&[Helper], ClusterError> {
        let find = || -> Result<Vec<Helper>, ClusterError> {
            let given = self.settings.helpers.iter().map(|path| Helper::of(path));
            let mut helpers = given.collect::<Result<Vec<_>, _>>()?;
            // The running program is large, and is only read where it is the one to be sent.
            let own = Platform::host().architecture;
            if helpers.iter().all(|helper| helper.architecture != own) {
                helpers.push(Helper::own()?);
            }
            Ok(helpers)
        };
        let found = self.helpers.get_or_init(find);
        found.as_deref().map_err(Clone::clone)
    }

    fn helper(&self, architecture: &str) -> Result<Option<&Helper>, ClusterError> {
        let mut helpers = self.helpers()?.iter();
        Ok(helpers.find(|helper| helper.architecture == architecture))
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
        own.or_else(|| self.helper_obstacle(&step.platform.architecture))
    }

    fn helper_obstacle(&self, architecture: &str) -> Option<String> {
        match self.helper(architecture) {
            Ok(None) => Some(format!(
                "a step is for linux/{architecture}, and workers need a kiln for it: name one with helper=FILE"
            )),
            _ => None,
        }
    }

    fn fail(&self, job: &Job<'_>, error: ClusterError) -> EngineError {
        EngineError::Custom {
            name: format!("{} on {}", job.step.name, self.settings.server),
            location: job.step.location.clone(),
            fault: error.fault(),
            source: Box::new(error),
        }
    }

    fn known(&self, id: &TreeId) -> Option<RemoteTree> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).cloned()
    }

    fn attempt(&self, job: &Job<'_>, around: &Around<'_>) -> Result<Executed, Failure> {
        let connection = self.remote.connection()?;
        if !connection.capabilities.executes {
            return Err(ClusterError::NoExecution.into());
        }
        self.placed(job, None);
        let may_join = |step: &Step| self.obstacle(step, around).is_none();
        let chain = Chain::of(job, &may_join);
        let known = |id: &TreeId| self.known(id);
        let from = Origin {
            trees: around.trees,
            known: &known,
            since: self.since,
            events: job.events,
        };
        let mut inputs = self.inputs(&chain, around, from)?;
        let action = self.action(&chain, &inputs);
        let result = self.run(connection, job, &mut inputs, &action, from)?;
        let read = Outputs::read(&connection.storage, &result, chain.len());
        let read = connection.runtime.block_on(read);
        let Outputs { given, report } = read.map_err(|error| self.explained(error, &chain))?;
        self.placed(job, Some(&given));
        let mut steps = report.steps.into_iter();
        let Some(first) = steps.next() else {
            return Err(given.wrong("its report is about no step").into());
        };
        let executed = self.take(connection, job, around, &given, first)?;
        let early = chain.early(around, &executed.tree, &given, steps.collect())?;
        self.early.add(early);
        Ok(executed)
    }

    /// A program that is linked dynamically is the likely reason when it didn't even begin.
    fn explained(&self, error: ClusterError, chain: &Chain<'_>) -> ClusterError {
        let helper = self.helper(chain.architecture());
        let is_static = helper.is_ok_and(|helper| helper.is_none_or(Helper::is_static));
        match error {
            ClusterError::NoReport { worker, reason } if !is_static => ClusterError::NoReport {
                worker,
                reason: format!(
                    "{reason}; this kiln is linked dynamically, and a worker with other libraries needs a static one, as releases are: name it with helper=FILE"
                ),
            },
            other => other,
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
        if let Some(helper) = self.helper(chain.architecture())? {
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
        let properties = properties(chain.architecture(), &self.settings.properties);
        OrderedAction::new(&inputs.root, &properties, chain.timeout())
    }

    /// Sends an action and runs it; once more when the cluster lost inputs meanwhile.
    fn run(
        &self,
        connection: &Connection,
        job: &Job<'_>,
        inputs: &mut Inputs,
        action: &OrderedAction,
        from: Origin<'_>,
    ) -> Result<ActionResult, Failure> {
        self.send(connection, inputs, action, from)?;
        match self.run_once(connection, job, action) {
            Err(Failure::Cluster(error)) if error.may_be_missing_input() => {
                match self.send(connection, inputs, action, from)? {
                    0 => Err(error.into()),
                    _ => self.run_once(connection, job, action),
                }
            }
            other => other,
        }
    }

    fn run_once(
        &self,
        connection: &Connection,
        job: &Job<'_>,
        action: &OrderedAction,
    ) -> Result<ActionResult, Failure> {
        let stop = Arc::new(Notify::new());
        let stopping = stop.clone();
        let _guard = job.cancel.on_cancel(move || stopping.notify_one());
        let execution = Execution {
            service: &connection.service,
            instance: &self.settings.server.instance,
            action: &action.digest,
            queue_limit: self.settings.queue_limit,
            stop,
        };
        Ok(connection.runtime.block_on(execution.run())?)
    }

    /// Sends what the cluster lacks of an action; gives the bytes.
    fn send(
        &self,
        connection: &Connection,
        inputs: &mut Inputs,
        action: &OrderedAction,
        from: Origin<'_>,
    ) -> Result<u64, Failure> {
        let storage = &connection.storage;
        let missing = connection
            .runtime
            .block_on(storage.missing(inputs.digests()))?;
        let is_missing = |hash: &str| missing.contains(hash);
        inputs.bring(is_missing, from)?;
        let messages = action.messages.iter().map(|stored| Upload {
            digest: stored.digest.clone(),
            content: Content::Bytes(&stored.bytes),
        });
        let mut uploads = inputs.uploads(is_missing);
        uploads.extend(messages);
        let sent = connection.runtime.block_on(storage.send(uploads))?;
        Ok(sent)
    }

    /// Says where a step runs.
    fn placed(&self, job: &Job<'_>, given: Option<&Given>) {
        let server = self.settings.server.to_string();
        let place = match given.map(|given| given.worker.as_str()) {
            Some(worker) if !worker.is_empty() => format!("{server} ({worker})"),
            _ => server,
        };
        job.events.event(Event::Placed {
            step: job.id.into(),
            place: Some(place),
            reason: None,
            queued: given.and_then(|given| given.queued),
        });
    }

    /// Takes what came of a step.
    fn take(
        &self,
        connection: &Connection,
        job: &Job<'_>,
        around: &Around<'_>,
        given: &Given,
        step: StepReport,
    ) -> Result<Executed, Failure> {
        self.tell(connection, job, given, &step)?;
        match step.end {
            StepEnd::Unable { reason } => {
                let error = given.unable_step(printable(&reason));
                self.unable.note(job.definition, error.to_string());
                Err(error.into())
            }
            StepEnd::Ran { tree, stdout } => {
                if stdout.as_ref().is_some_and(|text| text.len() > MAX_STDOUT) {
                    return Err(given.wrong("its report has too much output").into());
                }
                Ok(Executed {
                    tree: self.fetch(job, around, given, tree)?,
                    stdout: stdout.filter(|_| job.keep_output),
                    took: Some(Duration::from_millis(step.took)),
                })
            }
            StepEnd::Failed(failed) => {
                if let Some(tree) = failed.tree {
                    self.keep_failed(job, around, tree);
                }
                Err(Failure::Step(EngineError::Step(Box::new(StepFailure {
                    name: job.step.name.to_string(),
                    command: command_of(&job.step.op),
                    how: failed.how,
                    location: job.step.location.clone(),
                    last_output: failed.last_output,
                    changed: ChangedFiles {
                        some: failed.changed,
                        all: failed.changed_in_all,
                    },
                }))))
            }
        }
    }

    /// Tells what a step wrote and used.
    fn tell(
        &self,
        connection: &Connection,
        job: &Job<'_>,
        given: &Given,
        step: &StepReport,
    ) -> Result<(), Failure> {
        let id = job.id.into();
        if let Some(log) = &step.log {
            let read = given.log(&connection.storage, log);
            for (stream, bytes) in connection.runtime.block_on(read)? {
                job.events.event(Event::Output {
                    step: id,
                    stream,
                    bytes,
                });
            }
        }
        for message in step.warnings.iter().take(MAX_WARNINGS) {
            let message = format!("{}: {message}", self.settings.server);
            job.events.event(Event::Warning { message });
        }
        job.events.event(Event::Used {
            step: id,
            cpu: Duration::from_millis(step.cpu),
            memory: step.memory,
        });
        Ok(())
    }

    /// Brings the tree of a step's changes here.
    fn fetch(
        &self,
        job: &Job<'_>,
        around: &Around<'_>,
        given: &Given,
        tree: RemoteTree,
    ) -> Result<TreeId, Failure> {
        let distant = Distant::new(tree.clone(), &self.source);
        match around.trees.fetch_tree(&distant, job.events) {
            Ok(_) => {}
            Err(EngineError::RemoteCache { source, .. }) => {
                return Err(given.wrong(&source.to_string()).into());
            }
            Err(error) => return Err(error.into()),
        }
        let id = tree.tree;
        around.trees.distant.add(tree.clone(), &self.source);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        _ = known.insert(id, tree);
        Ok(id)
    }

    /// What a failed step left behind can be looked at here. It is no loss if it can't.
    fn keep_failed(&self, job: &Job<'_>, around: &Around<'_>, tree: RemoteTree) {
        let distant = Distant::new(tree, &self.source);
        if let Ok(tree) = around.trees.fetch_tree(&distant, job.events) {
            let store = &around.trees.store;
            _ = kiln_execute::keep_failed(store, &job.definition.0, &tree);
        }
    }
}

fn command_of(op: &Op) -> String {
    match op {
        Op::Exec(exec) => exec.args.join(" "),
        _ => String::new(),
    }
}
