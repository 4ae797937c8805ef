//! What an engine is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_execute::{
    CommandOptions, DefaultNetwork, Elsewhere, GitOptions, NoSecrets, Pins, SecretProvider,
};
use kiln_export::CacheTarget;
use kiln_graph::{Build, Entitlements, StepId};
use kiln_sandbox::Cgroups;
use kiln_share::CacheSource;
use kiln_solve::{Cancel, EventSink, SolveOptions};

/// A build to be solved.
#[derive(Clone)]
pub struct Request {
    /// The graph and the images wanted.
    pub build: Build,
    /// Local directories by the names that the graph has for them.
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
    /// Runs commands on other machines.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
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
    /// Limits what each step may use.
    pub cgroups: Option<Arc<Cgroups>>,
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
            elsewhere: None,
            outputs: BTreeSet::new(),
            pins: Pins::default(),
            jobs: DEFAULT_JOBS,
            network: DefaultNetwork::default(),
            allowed: Entitlements::default(),
            own_git: false,
            cgroups: None,
            secrets: Arc::new(NoSecrets),
            allow_secrets_in: Vec::new(),
            events: Arc::new(|_| {}),
            cancel: Cancel::new(),
        }
    }

    /// Has the build do without what other machines have, for some of that turned out to be damaged or
    /// gone. Whether that makes a difference.
    pub fn does_without_remotes(&mut self) -> bool {
        let had_caches = !self.cache_from.is_empty();
        self.cache_from.clear();
        let there = self.elsewhere.as_ref();
        let had_results = there.is_some_and(|there| there.keep_nothing());
        had_caches || had_results
    }

    /// What the solver needs to know; `most` steps at once at the most.
    pub(crate) fn solve_options(&self, most: usize) -> SolveOptions {
        SolveOptions {
            no_cache: self.no_cache,
            fresh: self.fresh.clone(),
            any_age: self.any_age,
            keep_going: self.keep_going,
            outputs: self.outputs.clone(),
            jobs: self.jobs.clamp(1, most),
            network: self.network.into(),
        }
    }

    /// What commands may have.
    pub(crate) fn command_options(&self) -> CommandOptions {
        CommandOptions {
            network: self.network,
            cgroups: self.cgroups.clone(),
            secrets: self.secrets.clone(),
            allow_secrets_in: self.allow_secrets_in.clone(),
            refuse_ids: false,
        }
    }

    /// What git may use.
    pub(crate) fn git_options(&self) -> GitOptions {
        GitOptions {
            own_git: self.own_git,
            allowed: self.allowed.clone(),
            secrets: self.secrets.clone(),
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
