//! Executes a command in a sandbox.

mod agent;
mod changes;
mod config_leak;
mod container;
mod encoding;
mod failure;
mod foreign;
mod held;
mod leak;
mod lowers;
mod mask;
mod mounts;
mod network;
mod owners;
mod process;
mod root_copy;
mod surroundings;
mod volume_mounts;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_cache::{Staging, Tree};
use kiln_graph::{Exec, Manifest, Op, Security, Step, Timestamp, UnixId};
use kiln_sandbox::{
    Cgroups, Fallback, Isolation, Mount, OwnerCalls, Root, Sandbox, SandboxError, Selection, Spec,
    User, Ways, resolve_user,
};
use kiln_solve::{Event, EventSink, Executed, Executor, Job};
use kiln_tree::TreeRoot;

use crate::clock::now;
use crate::secret::SecretProvider;
use crate::snapshotter::Snapshotter;
use crate::state;
use crate::view::{View, view_of};
use crate::volume::VolumeFinder;
use crate::{ChangedFiles, EngineError, LeftBehind};
use changes::Changes;
pub use config_leak::check_configurations;
pub use container::{Container, ContainerProcess, Started};
pub(crate) use failure::unstarted;
use failure::{check, impossible};
use held::Held;
use leak::{Base, Changed, Finder};
use mounts::MountPlanner;
pub use network::DefaultNetwork;
use process::Process;
use root_copy::copy_out;
use surroundings::{environment, hosts, name_servers};

const DEFAULT_SHM: u64 = 64 << 20;
const HOSTNAME: &str = "buildkitsandbox";

/// What the user says of commands.
#[derive(Clone)]
pub struct CommandOptions {
    /// The network of steps that don't say which they want.
    pub network: DefaultNetwork,
    /// Limits what each step may use.
    pub cgroups: Option<Arc<Cgroups>>,
    /// Secrets and SSH agents.
    pub secrets: Arc<dyn SecretProvider>,
    /// Patterns of paths in which the user wants secrets to be left.
    pub allow_secrets_in: Vec<String>,
    /// Whether a step can't be run that would give another result with more ids than there are.
    pub refuse_ids: bool,
}

impl std::fmt::Debug for CommandOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandOptions")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// Runs commands in sandboxes of this machine.
pub struct CommandExecutor<'a> {
    trees: &'a Snapshotter,
    sandbox: &'a Sandbox,
    selection: &'a Selection,
    options: &'a CommandOptions,
    volumes: VolumeFinder<'a>,
    events: &'a dyn EventSink,
    /// Whether it was said that there is one user id only.
    warned: AtomicBool,
    /// Whether overlayfs turned out not to work here.
    without_overlay: AtomicBool,
}

impl std::fmt::Debug for CommandExecutor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandExecutor").finish_non_exhaustive()
    }
}

impl Executor<EngineError> for CommandExecutor<'_> {
    fn prepare(&self, job: &Job<'_>) -> Result<(), EngineError> {
        self.trees.bring_inputs(job.inputs, self.events)
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        let Op::Exec(exec) = &job.step.op else {
            let message = format!("{} is no command", job.step.name);
            return Err(EngineError::Defect(message));
        };
        let mut tried = 0;
        loop {
            match self.with_some_root(job, exec) {
                Err(EngineError::Step(failure)) if tried < exec.retries => {
                    tried += 1;
                    let (name, how, most) = (&job.step.name, &failure.how, exec.retries);
                    self.warn(&format!("{name}: {how}; retry {tried} of {most}"));
                }
                other => return other,
            }
        }
    }
}

impl<'a> CommandExecutor<'a> {
    /// What runs commands of one build.
    #[must_use]
    pub fn new(
        trees: &'a Snapshotter,
        sandbox: &'a Sandbox,
        selection: &'a Selection,
        options: &'a CommandOptions,
        volumes: VolumeFinder<'a>,
        events: &'a dyn EventSink,
    ) -> Self {
        Self {
            trees,
            sandbox,
            selection,
            options,
            volumes,
            events,
            warned: AtomicBool::new(false),
            without_overlay: AtomicBool::new(false),
        }
    }

    fn warn(&self, message: &str) {
        let message = message.to_owned();
        self.events.event(Event::Warning { message });
    }

    /// Takes a weaker way from now on when a stronger one turns out to be refused: a copy of the
    /// root where overlayfs is, the container's `/proc`, a chroot.
    fn with_some_root(&self, job: &Job<'_>, exec: &Exec) -> Result<Executed, EngineError> {
        loop {
            let ways = self.ways(job.step)?;
            let copied = self.copies_root(ways);
            match self.attempt(job, exec, ways) {
                Err(EngineError::Sandbox { source, .. })
                    if self.fall_back(ways, copied, &source) => {}
                other => return other,
            }
        }
    }

    /// How a step is run.
    pub(crate) fn ways(&self, step: &Step) -> Result<Ways, EngineError> {
        let ways = self.selection.ways();
        let ways = ways.map_err(|source| unstarted(step, source))?;
        if let Some(text) = self.selection.notice(ways) {
            self.warn(text);
        }
        Ok(ways)
    }

    /// Whether there is another way, after what a step's preparation was refused that had a copied
    /// root or none. Of several steps that are refused at once, the first says so.
    fn fall_back(&self, ways: Ways, copied: bool, refused: &SandboxError) -> bool {
        if let SandboxError::Setup { what, reason, .. } = refused
            && what.contains("overlay")
            && !copied
        {
            if !self.without_overlay.swap(true, Ordering::SeqCst) {
                self.warn(&format!(
                    "overlayfs can't be used here ({reason}): steps copy their root, which is slower; 'kiln doctor' says more"
                ));
            }
            return true;
        }
        match self.selection.fall_back(ways, refused) {
            Fallback::None => false,
            Fallback::Retry(text) => {
                if let Some(text) = text {
                    self.warn(&text);
                }
                true
            }
        }
    }

    fn owner_calls(&self, single: bool) -> OwnerCalls {
        match single {
            false => OwnerCalls::Real,
            true if self.refuses_ids() => OwnerCalls::Refused,
            true => OwnerCalls::Faked,
        }
    }

    /// Whether steps that need more ids can't be run, and there is one.
    fn refuses_ids(&self) -> bool {
        self.options.refuse_ids && !self.trees.gives_away
    }

    /// Whether a step's root is a copy.
    fn copies_root(&self, ways: Ways) -> bool {
        ways.isolation == Isolation::Chroot || self.without_overlay.load(Ordering::SeqCst)
    }

    fn attempt(&self, job: &Job<'_>, exec: &Exec, ways: Ways) -> Result<Executed, EngineError> {
        let root = self.trees.snapshot(job.input(exec.root))?;
        let trees = self.trees.trees(&root, self.events)?;
        let prepared = self.set_up(job, exec, &trees, ways)?;
        let started = now();
        let written = Process {
            sandbox: self.sandbox,
            job,
            exec,
            spec: &prepared.spec,
            cgroups: self.options.cgroups.as_deref(),
            secrets: &prepared.held.secrets,
        }
        .run()?;
        let copied = matches!(prepared.spec.root, Root::Directory(_));
        let Prepared {
            base,
            staging,
            held,
            spec,
        } = prepared;
        drop(spec);
        let ended = check(job.step, exec, &written.finished, &written.last);
        if let Err(EngineError::Cancelled) = ended {
            return Err(EngineError::Cancelled);
        }
        let changes = Changes {
            trees: self.trees,
            base: &base,
            started,
            copied,
        };
        let (staging, manifest) = changes.of(staging)?;
        if self.refuses_ids() && owners::may_differ(&manifest, &base) {
            let message = "it copies or makes files that belong to others";
            return Err(impossible(job.step, with_one_id(message)));
        }
        self.check_leaks(job.step, &held, &base, &manifest, &staging, started)?;
        let changed = ended.is_err().then(|| ChangedFiles::of(&manifest));
        if job.cancel.is_overtaken() {
            return Err(EngineError::Cancelled);
        }
        let tree = self.trees.store.trees().commit(staging, manifest)?;
        match ended {
            Ok(()) => Ok(Executed {
                tree: tree.id(),
                stdout: written.stdout,
                took: None,
            }),
            Err(mut error) => {
                self.keep_failed(job, &tree);
                if let EngineError::Step(failure) = &mut error {
                    failure.changed = changed.unwrap_or_default();
                    failure.left = Some(LeftBehind {
                        step: job.id,
                        tree: tree.id(),
                    });
                }
                Err(error)
            }
        }
    }

    /// All that a command is run with.
    pub(crate) fn set_up(
        &self,
        job: &Job<'_>,
        exec: &Exec,
        trees: &[Tree],
        ways: Ways,
    ) -> Result<Prepared, EngineError> {
        let base = view_of(trees)?;
        let staging = self.trees.store.staging()?;
        let mut held = Held::new(ways, &staging);
        let user = self.user(job.step, exec, &base)?;
        let planner = MountPlanner {
            trees: self.trees,
            secrets: &*self.options.secrets,
            volumes: &self.volumes,
            copies_root: self.copies_root(ways),
            job,
        };
        let (mounts, secret_env) = planner.mounts(exec, &mut held)?;
        let root = self.root(trees, &base, &staging, ways)?;
        let mut spec = self.spec(exec, root, &user, mounts, secret_env);
        spec.ways = ways;
        Ok(Prepared {
            base,
            staging,
            held,
            spec,
        })
    }

    /// Searches what a command that was given secrets leaves behind.
    fn check_leaks(
        &self,
        step: &Step,
        held: &Held,
        base: &View,
        manifest: &Manifest,
        staging: &Staging,
        started: Timestamp,
    ) -> Result<(), EngineError> {
        let Some(finder) = Finder::new(&held.secrets)? else {
            return Ok(());
        };
        let volumes = held.volumes.iter().map(|volume| volume.root().clone());
        let volumes: Vec<TreeRoot> = volumes.collect();
        finder.check(&Changed {
            step,
            manifest,
            directory: staging.root(),
            base: Base::new(base),
            volumes: &volumes,
            started,
            allowed: &self.options.allow_secrets_in,
        })
    }

    /// What a failed command left behind can be looked at until the next build or prune.
    fn keep_failed(&self, job: &Job<'_>, tree: &Tree) {
        if let Err(error) = state::keep_failed(&self.trees.store, &job.definition.0, tree) {
            self.warn(&format!("the failed step's files are not kept: {error}"));
        }
    }

    fn user(&self, step: &Step, exec: &Exec, base: &View) -> Result<User, EngineError> {
        let mut user = user_in(step, exec, base)?;
        if !self.trees.gives_away && (user.uid, user.gid) != (UnixId::ROOT, UnixId::ROOT) {
            if self.refuses_ids() {
                let message = with_one_id("it runs as another user than root");
                return Err(impossible(step, message));
            }
            if !self.warned.swap(true, Ordering::Relaxed) {
                self.warn("steps run as root, for there is only one user id here; 'kiln doctor' says what to install");
            }
            (user.uid, user.gid, user.groups) = (UnixId::ROOT, UnixId::ROOT, Vec::new());
        }
        if !self.trees.gives_away {
            // With one id there are no groups to set, and the only one is the process's own.
            user.groups.retain(|group| *group != user.gid);
        }
        Ok(user)
    }

    fn spec(
        &self,
        exec: &Exec,
        root: Root,
        user: &User,
        mut mounts: Vec<Mount>,
        secret_env: Vec<(String, String)>,
    ) -> Spec {
        let hostname = exec.hostname.clone().unwrap_or_else(|| HOSTNAME.to_owned());
        let network = network::granted(exec.network, self.options.network);
        let text = |target: &str, content: String| Mount {
            target: target.into(),
            kind: kiln_sandbox::MountKind::File {
                content: content.into_bytes().into(),
                mode: 0o644,
                uid: UnixId::ROOT,
                gid: UnixId::ROOT,
            },
        };
        let resolv = name_servers(network);
        let hosts = hosts(&hostname, &exec.extra_hosts, network);
        mounts.insert(0, text("/etc/hosts", hosts));
        mounts.insert(0, text("/etc/resolv.conf", resolv));
        let single = !self.trees.gives_away;
        let mut env = environment(exec, user, secret_env);
        if single {
            // apt gives up root to download, and checks that it did.
            mounts.push(text(
                "/dev/kiln-apt.conf",
                "APT::Sandbox::User \"root\";\n".to_owned(),
            ));
            env.push(("APT_CONFIG".to_owned(), "/dev/kiln-apt.conf".to_owned()));
        }
        Spec {
            args: exec.args.clone(),
            env,
            cwd: PathBuf::from(exec.cwd.to_string()),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
            hostname,
            root,
            mounts,
            network,
            limits: exec
                .ulimits
                .iter()
                .map(|(name, (soft, hard))| (name.clone(), *soft, *hard))
                .collect(),
            shm_size: exec.shm_size.unwrap_or(DEFAULT_SHM),
            insecure: exec.security == Security::Insecure,
            owner_calls: self.owner_calls(single),
            in_user_namespace: self.selection.privileges().identity.is_in_user_namespace(),
            ways: Ways::NAMESPACES,
            terminal: false,
        }
    }

    fn root(
        &self,
        trees: &[Tree],
        base: &View,
        staging: &Staging,
        ways: Ways,
    ) -> Result<Root, EngineError> {
        if self.copies_root(ways) {
            copy_out(self.trees, &base.flatten(), staging)?;
            return Ok(Root::Directory(staging.fs().to_owned()));
        }
        let mut lowers = lowers::of(self.trees, trees)?;
        if lowers.is_empty() {
            lowers.push(self.trees.store.trees().empty()?.fs());
        }
        let (upper, work) = (staging.fs().to_owned(), staging.work().to_owned());
        Ok(Root::Overlay {
            lowers: lowers.into_iter().map(Into::into).collect(),
            upper,
            work,
        })
    }
}

/// The user that a command names, by what its root says of it.
fn user_in(step: &Step, exec: &Exec, base: &View) -> Result<User, EngineError> {
    let spec = exec.user.as_deref().unwrap_or("");
    let found = resolve_user(spec, &base.text("/etc/passwd"), &base.text("/etc/group"));
    found.map_err(|error| EngineError::Impossible {
        message: error.to_string(),
        location: step.location.clone(),
    })
}

/// A command that is ready to run, and what must live as long as it.
pub(crate) struct Prepared {
    /// The files of its root before it runs.
    base: View,
    /// Where its changes go.
    staging: Staging,
    held: Held,
    pub(crate) spec: Spec,
}

/// Why a step's result would be another.
fn with_one_id(what: &str) -> String {
    format!("the step can't be run with one user id: {what}")
}
