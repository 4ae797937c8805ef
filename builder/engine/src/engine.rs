//! The engine, and what it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::Store;
use kiln_graph::{Build, Entitlements, StepId};
use kiln_image::Client;
use kiln_sandbox::{Fallback, Isolation, Privileges, Sandbox, SandboxError, Selection, Ways};

use crate::export::shared_cache::CacheTarget;
use crate::share::CacheSource;
use crate::solve::meter::Meter;
use crate::solve::pin::Pins;
use crate::solve::snapshot::{LayerRef, Snapshot};
use crate::{Cancel, EngineError, EventSink, SecretProvider};

/// What solves builds: a store, a way to run processes, a way to fetch images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) sandbox: Sandbox,
    pub(crate) client: Client,
    pub(crate) selection: Selection,
}

impl Engine {
    /// An engine.
    #[must_use]
    pub fn new(store: Store, sandbox: Sandbox, client: Client, privileges: Privileges) -> Self {
        Self {
            store,
            sandbox,
            client,
            selection: Selection::new(privileges),
        }
    }

    /// The engine's store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The engine's way to fetch and send images.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends all that this engine and its clones wait for: servers, and locks that other processes
    /// hold. To be called when the process is to end.
    pub fn close(&self) {
        self.client.close();
        self.store.stop();
    }

    /// Begins a transfer that ends when the engine is closed.
    pub(crate) fn meter<'a>(
        &self,
        events: &'a dyn EventSink,
        name: impl Into<String>,
        total: Option<u64>,
    ) -> Meter<'a> {
        let store = self.store.clone();
        Meter::new(events, name, total).until(move || store.is_stopped())
    }

    /// Fetches and unpacks an image's layers.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn pull(
        &self,
        name: &str,
        platform: &kiln_graph::Platform,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let resolved = self.client.resolve(name, platform)?;
        let image: Arc<str> = name.into();
        let layer = |layer| LayerRef::Image {
            layer,
            image: image.clone(),
        };
        let layers = resolved.layers.into_iter().map(layer).collect();
        self.trees(&Snapshot::new(layers, None), events).map(drop)
    }

    /// How steps are run.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Prepares a step on empty folders and runs nothing in it: whether overlayfs can be mounted on
    /// the store. Which way steps are run is known afterwards (see [`Engine::selection`]).
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
        let (lower, staging) = (self.store.staging()?, self.store.staging()?);
        let identity = self.selection.privileges().identity;
        let mut spec =
            kiln_sandbox::Spec::probe(lower.fs(), staging.fs(), staging.work(), identity);
        spec.ways = ways;
        let child = self.sandbox.spawn(&spec, kiln_sandbox::Output::Piped);
        Ok(child.and_then(|child| child.wait().map(drop)))
    }

    /// Whether files can be given to any owner.
    pub(crate) fn gives_away(&self) -> bool {
        self.selection.privileges().identity.gives_away()
    }
}

/// The network of steps that don't say which they want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultNetwork {
    /// The host's own.
    #[default]
    Host,
    /// Loopback only.
    None,
    /// A network of its own, connected to the host's by `pasta`.
    Sandbox,
}

/// A build to be solved.
#[derive(Clone)]
pub struct Request {
    /// The graph and the images wanted.
    pub build: Build,
    /// Local folders by the names that the graph has for them.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Run every step, whatever is stored.
    pub no_cache: bool,
    /// Steps to run whatever is stored.
    pub fresh: BTreeSet<StepId>,
    /// Use stored results whatever the steps, or the two fields above, say.
    pub any_age: bool,
    /// After a failure, run what doesn't depend on it.
    pub keep_going: bool,
    /// Remotes that results are taken from, asked in order.
    pub cache_from: Vec<CacheSource>,
    /// Remotes that results are sent to, each as soon as it is there.
    pub cache_to: Vec<CacheTarget>,
    /// What cache volumes are tied to, by the volumes' names: a volume with another key is another
    /// one, which begins as a copy of the newest of the name.
    pub volume_keys: BTreeMap<String, String>,
    /// Steps whose standard output somebody wants to know: see [`crate::Solved::written`].
    pub outputs: BTreeSet<StepId>,
    /// What branches, tags and addresses are taken to stand for.
    pub pins: Pins,
    /// How many steps run at once.
    pub jobs: usize,
    /// The network of steps that don't say which they want.
    pub network: DefaultNetwork,
    /// What the build file may ask for beyond what every build may.
    pub allowed: Entitlements,
    /// Whether git may use the user's own configuration, credentials and keys: only where the user
    /// typed the address, never for one that a build file names.
    pub own_git: bool,
    /// Secrets and SSH agents.
    pub secrets: Arc<dyn SecretProvider>,
    /// Patterns of paths in which the user wants secrets to be left.
    pub allow_secrets_in: Vec<String>,
    /// Is told everything that happens.
    pub events: Arc<dyn EventSink>,
    /// Stops the build.
    pub cancel: Cancel,
}

/// How many steps run at once unless the user says otherwise: steps wait for networks and disks
/// more than they compute.
const DEFAULT_JOBS: usize = 32;

impl Request {
    /// A request with nothing but a build.
    #[must_use]
    pub fn new(build: Build) -> Self {
        Self {
            build,
            contexts: BTreeMap::new(),
            no_cache: false,
            fresh: BTreeSet::new(),
            any_age: false,
            keep_going: false,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            volume_keys: BTreeMap::new(),
            outputs: BTreeSet::new(),
            pins: Pins::default(),
            jobs: DEFAULT_JOBS,
            network: DefaultNetwork::default(),
            allowed: Entitlements::default(),
            own_git: false,
            secrets: Arc::new(crate::NoSecrets),
            allow_secrets_in: Vec::new(),
            events: Arc::new(|_| {}),
            cancel: Cancel::new(),
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("contexts", &self.contexts)
            .finish_non_exhaustive()
    }
}
