//! The engine: what every build on this machine shares.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kiln_attest::Inventory;
use kiln_attest::sbom::Subject;
use kiln_cache::{Session, Store, Tree};
use kiln_execute::{
    EngineError, GitResolver, Moment, Pin, Snapshotter, VolumeTransfer, check_configurations,
    export_volume, failed_tree, import_volume, interact, joined, known_checksum, now, state_at,
    surroundings,
};
use kiln_export::{
    DeltaMaker, Difference, Exports, ImageReport, IndexMerger, MergedIndex, OutputEntry, Rebase,
    diff_images, extract, files_of, find_image, image_packages, inspect_image, rebase,
};
use kiln_graph::{ImagePath, Op, Platform, StepId};
use kiln_image::{Client, Reference, Resolved};
use kiln_sandbox::{Fallback, Isolation, Privileges, Sandbox, SandboxError, Selection, Ways};
use kiln_share::{CacheSigner, CacheSource, Remote};
use kiln_solve::{
    Edits, Event, EventSink, Executor, Forecast, Job, Snapshot, Solution, SourceResolver,
    StepResult, check_entitlements,
};
use kiln_tree::TreeRoot;

use crate::machine::{Custom, Machine};
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
struct Ran {
    solution: Solution,
    trees: Snapshotter,
    exports: Exports,
    session: Session,
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
        let ran = match self.run(&request, &targets) {
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

    /// Solves some steps of a build.
    fn run(&self, request: &Request, targets: &[StepId]) -> Result<Ran, EngineError> {
        check_entitlements(&request.build.graph, targets, &request.allowed)?;
        check_configurations(&request.build, &*request.secrets)?;
        let session = self.store().session()?;
        let machine = self.machine(request);
        let (build, to) = (&request.build, &request.cache_to);
        let exports = Exports::start(&machine.trees, build, to, &request.events);
        let solution = machine.with_solver(&exports, |solver| solver.solve(targets))?;
        // Steps may have been given secrets that nobody had asked for before.
        check_configurations(&request.build, &*request.secrets)?;
        self.store().settle()?;
        Ok(Ran {
            solution,
            trees: machine.trees,
            exports,
            session,
        })
    }

    fn machine<'a>(&'a self, request: &'a Request) -> Machine<'a> {
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
        let ran = self.run(request, &wanted)?;
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
        let job = Job {
            id: step,
            definition: graph.definition(step),
            step: graph.step(step),
            inputs: &inputs,
            keep_output: false,
            ahead: None,
            events: &*request.events,
            cancel: &request.cancel,
        };
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
        let ran = self.run(&request, &targets)?;
        let files = wanted.iter().map(|(step, moment, path)| {
            let results = &ran.solution.results;
            let state = state_at(&ran.trees, graph, *step, *moment, results)?;
            extract(&ran.trees, &state, path, &*request.events)
        });
        files.collect()
    }

    /// Fetches and unpacks an image's layers.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn pull(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let resolved = self.client().resolve(name, platform)?;
        self.trees.deltas.explain();
        let layers = Snapshot::of_image(&resolved.layers, name);
        self.trees.trees(&layers, events).map(drop)
    }

    /// Takes the files of an image as those that pulled layers may be rebuilt from.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn use_base_image(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let image = self.find_image(name, platform)?;
        self.trees.use_base_image(&image.layers, name, events)
    }

    /// A tagged image, when the store has all that is needed to build on it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn stored_image(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<Option<Resolved>, EngineError> {
        kiln_export::stored_image(self.store(), name, platform)
    }

    /// Brings an image into the store under a name: its layers, and a manifest.
    ///
    /// # Errors
    /// When it can't be read, or the store can't be written.
    pub fn load(
        &self,
        image: &str,
        platform: &Platform,
        name: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        kiln_export::load(&self.trees, image, platform, name, events)
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

    /// An image of the store, else of wherever its name says.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn find_image(&self, name: &str, platform: &Platform) -> Result<Resolved, EngineError> {
        find_image(&self.trees, name, platform)
    }

    /// The files that an image shows, as one tree.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn image_files(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Vec<OutputEntry>, EngineError> {
        let image = self.find_image(name, platform)?;
        let snapshot = Snapshot::of_image(&image.layers, name);
        let result = StepResult::Snapshot(snapshot);
        files_of(&self.trees, Some(&result), events)
    }

    /// The files that an image shows, in one tree of the store, which shares them with those of its
    /// layers. A session must keep it.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn image_tree(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        let image = self.find_image(name, platform)?;
        let snapshot = Snapshot::of_image(&image.layers, name);
        joined(&self.trees, &self.trees.trees(&snapshot, events)?)
    }

    /// Gives a directory the attributes of a tree's root.
    ///
    /// # Errors
    /// When the tree can't be read, or the system refuses.
    pub fn dress_root(&self, tree: &Tree, directory: &TreeRoot) -> Result<(), EngineError> {
        let manifest = tree.manifest()?;
        let Some(root) = manifest.get(&ImagePath::root()) else {
            return Ok(());
        };
        let set = directory.set_attributes(root, self.trees.gives_away);
        set.map_err(|source| EngineError::Output {
            what: "the root of an image".to_owned(),
            source,
        })
    }

    /// What each layer of an image holds.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn inspect_image(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<ImageReport, EngineError> {
        inspect_image(&self.trees, name, platform, events)
    }

    /// The packages of an image in the store, a registry or an archive, and what they are told with.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn image_packages(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(Subject, Inventory), EngineError> {
        image_packages(&self.trees, name, platform, events)
    }

    /// The paths in which two images differ.
    ///
    /// # Errors
    /// When an image can't be had or unpacked.
    pub fn diff_images(
        &self,
        before: &str,
        after: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Vec<Difference>, EngineError> {
        diff_images(&self.trees, before, after, platform, events)
    }

    /// Puts an image's own layers onto another base, and tags the result.
    ///
    /// # Errors
    /// When the image isn't built on the base, or replaces files that differ between the bases:
    /// it may hold what was made from the old ones, such as a package database.
    pub fn rebase(&self, wanted: &Rebase<'_>, events: &dyn EventSink) -> Result<(), EngineError> {
        rebase(&self.trees, wanted, events)
    }

    /// Merges images, and those of indexes, each once. Nothing is sent.
    ///
    /// # Errors
    /// When one can't be had or understood, or two different ones are for one platform.
    pub fn merge_images(
        &self,
        images: &[Reference],
        annotations: &BTreeMap<String, String>,
    ) -> Result<MergedIndex, EngineError> {
        self.index_merger().merge(images, annotations)
    }

    /// Sends an index and what it names. Blobs of the same registry are mounted; what is in the
    /// repository already is left alone.
    ///
    /// # Errors
    /// When something can't be fetched or sent.
    pub fn push_index(
        &self,
        index: &MergedIndex,
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        self.index_merger().push(index, to, events)
    }

    fn index_merger(&self) -> IndexMerger<'_> {
        IndexMerger {
            store: self.store(),
            client: self.client(),
        }
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
