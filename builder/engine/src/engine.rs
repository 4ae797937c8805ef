//! The engine: what every build on this machine shares.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use kiln_cache::{Session, Store};
use kiln_execute::{
    EngineError, GitResolver, Moment, Pin, Snapshotter, VolumeTransfer, check_configurations,
    export_volume, failed_tree, import_volume, interact, known_checksum, now, state_at,
    surroundings,
};
use kiln_export::{DeltaMaker, Exports, OutputEntry, extract};
use kiln_graph::{ImagePath, Op, StepId};
use kiln_image::Client;
use kiln_sandbox::{Fallback, Isolation, Privileges, Sandbox, SandboxError, Selection, Ways};
use kiln_share::{CacheSigner, CacheSource, Remote};
use kiln_solve::{
    Edits, Event, Executor, Forecast, Job, Solution, SourceResolver, StepError, StepResult,
    check_entitlements,
};

use crate::images::Images;
use crate::machine::{Custom, Machine};
use crate::named::{forget_names, take_names, trees_of};
use crate::request::Request;
use crate::solved::Solved;

/// What solves builds: a store, a way to run processes, a way to fetch images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    trees: Snapshotter,
    sandbox: Sandbox,
    selection: Selection,
    custom: Custom,
}

/// What came of the steps of a build, and what keeps it.
pub(crate) struct Ran {
    pub(crate) solution: Solution,
    pub(crate) trees: Snapshotter,
    pub(crate) exports: Exports,
    pub(crate) session: Session,
}

impl Engine {
    /// An engine.
    #[must_use]
    pub fn new(store: Store, sandbox: Sandbox, client: Client, privileges: Privileges) -> Self {
        let trees = Snapshotter {
            store,
            client,
            gives_away: privileges.identity.gives_away(),
            distant: Arc::default(),
            deltas: Arc::default(),
        };
        Self {
            trees,
            sandbox,
            selection: Selection::new(privileges),
            custom: Custom::default(),
        }
    }

    /// Has commands run by an executor of the caller's, in place of sandboxes of this machine.
    #[must_use]
    pub fn with_executor(mut self, executor: Arc<dyn Executor<EngineError>>) -> Self {
        self.custom.commands = Some(executor);
        self
    }

    /// Has sources resolved by the caller, in place of this machine's directories, git and HTTP.
    #[must_use]
    pub fn with_sources(mut self, sources: Arc<dyn SourceResolver<EngineError>>) -> Self {
        self.custom.sources = Some(sources);
        self
    }

    /// Has images fetched and sent by another client.
    #[must_use]
    pub fn with_client(mut self, client: Client) -> Self {
        self.trees.client = client;
        self
    }

    /// The engine's store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.trees.store
    }

    /// The engine's way to fetch and send images.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.trees.client
    }

    /// Ends all that this engine and its clones wait for: servers, and locks that other processes
    /// hold. To be called when the process is to end.
    pub fn close(&self) {
        self.client().close();
        self.store().stop();
    }

    /// What runs processes.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// How steps are run.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Solves a build: runs what the targets need and the store doesn't have.
    ///
    /// # Errors
    /// The first failure; everything that still ran was stopped.
    pub fn solve(&self, request: Request) -> Result<Solved, EngineError> {
        let started = now();
        let targets = request.build.roots();
        let mut request = request;
        let ran = match self.with_names(&request, &targets) {
            // A remote that turns out to be damaged costs time, never the build.
            Err(error @ EngineError::RemoteCache { .. }) if request.does_without_remotes() => {
                let message = format!("{error}; building without it");
                request.events.event(Event::Warning { message });
                self.run(&request, &targets)?
            }
            other => other?,
        };
        Ok(Solved {
            trees: ran.trees,
            selection: self.selection.clone(),
            build: request.build,
            volume_keys: request.volume_keys,
            solution: ran.solution,
            started,
            exports: ran.exports,
            _session: ran.session,
        })
    }

    /// Solves some steps of a build, with what shared caches know by name only. Where files of such a result turn out
    /// to be needed, the build begins again without: what it ran is in the store.
    pub(crate) fn with_names(
        &self,
        request: &Request,
        targets: &[StepId],
    ) -> Result<Ran, EngineError> {
        let takes_names = take_names(&request.cache_from);
        let ran = self.run(request, targets).and_then(|ran| {
            for result in targets.iter().filter_map(|id| ran.solution.results.get(id)) {
                ran.trees.check_named(&trees_of(result))?;
            }
            Ok(ran)
        });
        match ran {
            Err(error) if takes_names && error.begins_again() => {
                forget_names(&request.cache_from);
                self.run(request, targets)
            }
            other => other,
        }
    }

    /// Solves some steps of a build.
    fn run(&self, request: &Request, targets: &[StepId]) -> Result<Ran, EngineError> {
        check_entitlements(&request.build.graph, targets, &request.allowed)?;
        check_configurations(&request.build, &*request.secrets, self.store())?;
        let session = self.store().session()?;
        let machine = self.machine(request);
        let (build, to) = (&request.build, &request.cache_to);
        let exports = Exports::start(&machine.trees, build, to, &request.events);
        let solution = machine.with_solver(&exports, |solver| solver.solve(targets))?;
        // Steps may have been given secrets that nobody had asked for before.
        check_configurations(&request.build, &*request.secrets, self.store())?;
        self.store().settle()?;
        Ok(Ran {
            solution,
            trees: machine.trees,
            exports,
            session,
        })
    }

    pub(crate) fn machine<'a>(&'a self, request: &'a Request) -> Machine<'a> {
        Machine::new(
            request,
            &self.trees,
            &self.sandbox,
            &self.selection,
            &self.custom,
        )
    }

    /// What would run if these files of contexts were edited now. Base images are fetched if need
    /// be; nothing is run.
    ///
    /// # Errors
    /// When a context can't be read, or a source not be had.
    pub fn forecast(&self, request: &Request, edits: &Edits) -> Result<Vec<Forecast>, EngineError> {
        let _session = self.store().session()?;
        let targets = request.build.roots();
        let machine = self.machine(request);
        machine.with_solver(&Exports::default(), |solver| {
            solver.forecast(&targets, edits)
        })
    }

    /// What a git or HTTP source of a build stands for now; files are fetched for it. Nothing for
    /// other steps.
    ///
    /// # Errors
    /// When it can't be asked for.
    pub fn pin(&self, request: &Request, step: StepId) -> Result<Option<Pin>, EngineError> {
        let about = request.build.graph.step(step);
        match &about.op {
            Op::Git(source) => {
                let git = GitResolver {
                    store: self.store(),
                    sandbox: &self.sandbox,
                    options: &request.git_options(),
                };
                let commit = git.commit(about, source, &request.cancel)?;
                Ok(Some(Pin::Commit(commit)))
            }
            Op::Http(source) => {
                _ = self.run(request, &[step])?;
                Ok(known_checksum(self.store(), source)?.map(Pin::Checksum))
            }
            _ => Ok(None),
        }
    }

    /// Prepares a step on empty directories and runs nothing in it: whether overlayfs can be mounted
    /// on the store. Which way steps are run is known afterwards (see [`Engine::selection`]).
    ///
    /// # Errors
    /// The reason, in words.
    pub fn try_overlay(&self) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        loop {
            let ways = self.selection.ways().map_err(|error| text(&error))?;
            if ways.isolation == Isolation::Chroot {
                return Err("without namespaces nothing can be mounted".to_owned());
            }
            match self.probe(ways).map_err(|error| text(&error))? {
                Ok(()) => return Ok(()),
                Err(error) if self.selection.fall_back(ways, &error) == Fallback::None => {
                    return Err(error.to_string());
                }
                Err(_) => {}
            }
        }
    }

    fn probe(&self, ways: Ways) -> Result<Result<(), SandboxError>, EngineError> {
        let (lower, staging) = (self.store().staging()?, self.store().staging()?);
        let identity = self.selection.privileges().identity;
        let mut spec =
            kiln_sandbox::Spec::probe(lower.fs(), staging.fs(), staging.work(), identity);
        spec.ways = ways;
        let child = self.sandbox.spawn(&spec, kiln_sandbox::Output::Piped);
        Ok(child.and_then(|child| child.wait().map(drop)))
    }

    /// Whether a step's last failure can be looked at.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn has_failed_state(&self, request: &Request, step: StepId) -> Result<bool, EngineError> {
        let graph = &request.build.graph;
        Ok(failed_tree(self.store(), graph, step)?.is_some())
    }

    /// Runs a shell on a terminal in a state of a step, with the step's mounts, variables, user
    /// and network. What it changes is thrown away. Gives the shell's exit status.
    ///
    /// # Errors
    /// When the state can't be made, or there is no shell in it.
    pub fn shell(
        &self,
        request: &Request,
        step: StepId,
        moment: Moment,
        terminal: OwnedFd,
    ) -> Result<i32, EngineError> {
        let graph = &request.build.graph;
        let mut wanted = graph.inputs(step).to_vec();
        if moment == Moment::After {
            wanted.push(step);
        }
        let ran = self.with_names(request, &wanted)?;
        let results = &ran.solution.results;
        let inputs = graph.inputs(step).iter();
        let inputs: Vec<StepResult> = inputs
            .filter_map(|input| results.get(input).cloned())
            .collect();
        let root = state_at(&ran.trees, graph, step, moment, results)?;
        // What the machine refuses is found before the terminal is given away.
        _ = self.try_overlay();
        let mut machine = self.machine(request);
        machine.trees = ran.trees;
        let job = Job::alone(graph, step, &inputs, &*request.events, &request.cancel);
        let exec = surroundings(graph, step);
        let (executor, trees) = (machine.command_executor(), &machine.trees);
        interact(&executor, trees, &self.sandbox, &job, exec, &root, terminal)
    }

    /// The same as [`Solved::files_at`] for some steps of a build that failed. Steps that have run
    /// are not run again.
    ///
    /// # Errors
    /// When a step's state can't be had or read.
    pub fn extract(
        &self,
        request: &Request,
        wanted: &[(StepId, Moment, ImagePath)],
    ) -> Result<Vec<Option<Vec<OutputEntry>>>, EngineError> {
        let graph = &request.build.graph;
        let mut targets: Vec<StepId> = Vec::new();
        for (step, moment, _) in wanted {
            match moment {
                Moment::After => targets.push(*step),
                Moment::Before | Moment::Failed => targets.extend(graph.inputs(*step)),
            }
        }
        let request = Request {
            any_age: true,
            ..request.clone()
        };
        let ran = self.with_names(&request, &targets)?;
        let files = wanted.iter().map(|(step, moment, path)| {
            let results = &ran.solution.results;
            let state = state_at(&ran.trees, graph, *step, *moment, results)?;
            extract(&ran.trees, &state, path, &*request.events)
        });
        files.collect()
    }

    /// Images by their names.
    #[must_use]
    pub fn images(&self) -> Images<'_> {
        Images(&self.trees)
    }

    /// Brings trees and blobs of images into the store.
    #[must_use]
    pub fn trees(&self) -> &Snapshotter {
        &self.trees
    }

    /// Makes and reads differences between images.
    #[must_use]
    pub fn deltas(&self) -> DeltaMaker<'_> {
        DeltaMaker(&self.trees)
    }

    /// Sends a volume to a remote: what the remote lacks of it. Waits until no step uses it, and
    /// keeps others from it until it has been read.
    ///
    /// # Errors
    /// When the volume can't be read or the remote can't be written.
    pub fn export_volume(
        &self,
        name: &str,
        remote: &dyn Remote,
        signer: Option<&CacheSigner>,
    ) -> Result<VolumeTransfer, EngineError> {
        self.export_volume_as(name, name, remote, signer)
    }

    /// Sends a volume to a remote under another name.
    ///
    /// # Errors
    /// As [`Self::export_volume`].
    pub fn export_volume_as(
        &self,
        name: &str,
        theirs: &str,
        remote: &dyn Remote,
        signer: Option<&CacheSigner>,
    ) -> Result<VolumeTransfer, EngineError> {
        export_volume(self.store(), name, theirs, remote, signer)
    }

    /// Replaces a volume by the one of a remote; `None` when the remote has none of this name.
    /// Nothing is seen of it before it is whole.
    ///
    /// # Errors
    /// When the remote is damaged or can't be read, or a step holds the volume.
    pub fn import_volume(
        &self,
        name: &str,
        source: &CacheSource,
    ) -> Result<Option<VolumeTransfer>, EngineError> {
        import_volume(&self.trees, name, name, source)
    }
}
