//! Executes a command in a sandbox.

mod changes;
pub(crate) mod leak;
mod lowers;
pub(crate) mod mask;
mod mounts;
mod process;
mod root_copy;
mod shell;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use kiln_cache::{Staging, Tree};
use kiln_graph::{
    Exec, HOST_GATEWAY, Manifest, Platform, Security, Step, StepId, Timestamp, UnixId,
};
use kiln_sandbox::{
    Exit, Fallback, Finished, Isolation, Mount, Root, SandboxError, Spec, User, Ways, resolve_user,
};
use kiln_tree::{TreeRoot, host};

use crate::execute::run::leak::{Base, Changed, Finder};
use crate::execute::snapshotter::view_of;
use crate::execute::view::View;
use crate::solve::snapshot::StepResult;
use crate::solve::step::Shared;
use crate::{ChangedFiles, EngineError, StepFailure};
use mounts::Held;
pub use shell::Moment;

const DEFAULT_SHM: u64 = 64 << 20;
const HOSTNAME: &str = "buildkitsandbox";

impl Shared<'_> {
    /// Runs a command and stores what it changed.
    pub(crate) fn execute(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        let mut tried = 0;
        loop {
            match self.with_some_root(id, step, exec, inputs) {
                Err(EngineError::Step(failure)) if tried < exec.retries => {
                    tried += 1;
                    let (name, how, most) = (&step.name, &failure.how, exec.retries);
                    self.warn(&format!("{name}: {how}; retry {tried} of {most}"));
                }
                other => return other,
            }
        }
    }

    /// Takes a weaker way from now on when a stronger one turns out to be refused: a copy of the
    /// root where overlayfs is, the container's `/proc`, a chroot.
    fn with_some_root(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        loop {
            let ways = self.ways(step)?;
            let copied = self.copies_root(ways);
            let failed = match self.attempt(id, step, exec, inputs, ways) {
                Err(EngineError::Sandbox {
                    source,
                    name,
                    location,
                }) => (source, name, location),
                other => return other,
            };
            let (source, name, location) = failed;
            if !self.fall_back(ways, copied, &source) {
                return Err(EngineError::Sandbox {
                    source,
                    name,
                    location,
                });
            }
        }
    }

    /// How a step is run.
    fn ways(&self, step: &Step) -> Result<Ways, EngineError> {
        let ways = self.engine.selection.ways();
        let ways = ways.map_err(|source| EngineError::Sandbox {
            name: step.name.to_string(),
            location: step.location.clone(),
            source,
        })?;
        if let Some(text) = self.engine.selection.notice(ways) {
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
        match self.engine.selection.fall_back(ways, refused) {
            Fallback::None => false,
            Fallback::Retry(text) => {
                if let Some(text) = text {
                    self.warn(&text);
                }
                true
            }
        }
    }

    /// Whether a step's root is a copy.
    fn copies_root(&self, ways: Ways) -> bool {
        ways.isolation == Isolation::Chroot || self.without_overlay.load(Ordering::SeqCst)
    }

    fn attempt(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
        ways: Ways,
    ) -> Result<Tree, EngineError> {
        let root = self.snapshot(&inputs[exec.root.index()])?;
        let trees = self.engine.trees(&root, &*self.request.events)?;
        let base = view_of(&trees)?;
        let staging = self.engine.store.staging()?;
        let mut held = Held::new(ways, &staging);
        let user = self.user(step, exec, &base)?;
        let (mounts, secret_env) = self.mounts(step, exec, inputs, &mut held)?;
        let root = self.root(&trees, &base, &staging, ways)?;
        let mut spec = self.spec(exec, root, &user, mounts, secret_env);
        spec.ways = ways;
        let started = now();
        let (finished, last_output) = self.run_process(id, step, exec, &spec, &held.secrets)?;
        drop(spec);
        let ended = check(step, exec, &finished, &last_output);
        if let Err(EngineError::Cancelled) = ended {
            return Err(EngineError::Cancelled);
        }
        let (staging, manifest) = self.changes(staging, started, &base, ways)?;
        self.check_leaks(step, &held, &base, &manifest, &staging, started)?;
        let changed = ended.is_err().then(|| ChangedFiles::of(&manifest));
        let tree = self.engine.store.commit(staging, manifest)?;
        match ended {
            Ok(()) => Ok(tree),
            Err(mut error) => {
                self.keep_failed(id, &tree);
                if let EngineError::Step(failure) = &mut error {
                    failure.changed = changed.unwrap_or_default();
                }
                Err(error)
            }
        }
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
            folder: staging.root(),
            base: Base::new(base),
            volumes: &volumes,
            started,
            allowed: &self.request.allow_secrets_in,
        })
    }

    /// What a failed command left behind can be looked at until the next build or prune.
    fn keep_failed(&self, id: StepId, tree: &Tree) {
        let name = self.graph().definition(id).0;
        if let Err(error) = self.engine.store.put_memo("failed", &name, &tree.id()) {
            self.warn(&format!("the failed step's files are not kept: {error}"));
        }
    }

    fn user(&self, step: &Step, exec: &Exec, base: &View) -> Result<User, EngineError> {
        let spec = exec.user.as_deref().unwrap_or("");
        let found = resolve_user(spec, &base.text("/etc/passwd"), &base.text("/etc/group"));
        let mut user = found.map_err(|error| EngineError::Missing {
            message: error.to_string(),
            location: step.location.clone(),
        })?;
        if !self.engine.gives_away() && (user.uid, user.gid) != (UnixId::ROOT, UnixId::ROOT) {
            self.warn_once("steps run as root, for there is only one user id here; 'kiln doctor' says what to install");
            (user.uid, user.gid, user.groups) = (UnixId::ROOT, UnixId::ROOT, Vec::new());
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
        let network = crate::solve::entitlement::network(exec.network, self.request.network);
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
        let single = !self.engine.gives_away();
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
            fake_ids: single,
            in_user_namespace: self
                .engine
                .selection
                .privileges()
                .identity
                .is_in_user_namespace(),
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
            self.copy_out(&base.flatten(), staging)?;
            return Ok(Root::Folder(staging.fs().to_owned()));
        }
        let mut lowers = self.lowers(trees)?;
        if lowers.is_empty() {
            lowers.push(self.engine.store.empty_tree()?.fs());
        }
        let (upper, work) = (staging.fs().to_owned(), staging.work().to_owned());
        Ok(Root::Overlay {
            lowers: lowers.into_iter().map(Into::into).collect(),
            upper,
            work,
        })
    }
}

fn missing(step: &Step, message: String) -> EngineError {
    EngineError::Missing {
        message,
        location: step.location.clone(),
    }
}

/// The time by the clock that file systems use: it may be a tick behind the exact one, and a file
/// written now must not look older than this.
pub(crate) fn now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Timestamp {
        seconds: now.tv_sec,
        nanos: u32::try_from(now.tv_nsec).unwrap_or_default(),
    }
}

fn environment(exec: &Exec, user: &User, secrets: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut env = exec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        let home = if user.home.is_empty() {
            "/"
        } else {
            &user.home
        };
        env.push(("HOME".to_owned(), home.to_owned()));
    }
    let proxies = exec.proxy.iter();
    let proxies = proxies.map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in proxies.chain(secrets) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

/// `/etc/resolv.conf`: the machine's own, but in a network of its own another name server.
fn name_servers(network: kiln_sandbox::Network) -> String {
    let text = host::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if network != kiln_sandbox::Network::Sandbox {
        return text;
    }
    let kept = text.lines().filter(|line| !line.starts_with("nameserver"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!("nameserver {}\n{kept}", kiln_sandbox::NAME_SERVER)
}

/// Why a step's programs can't be executed, when they are for another kind of machine.
fn foreign(step: &Step) -> Option<EngineError> {
    let (wanted, here) = (&step.platform, Platform::host());
    if here.runs(wanted) || binfmt_runs(&wanted.architecture) {
        return None;
    }
    let message = format!(
        "this step runs programs for {wanted}, but this machine is {here} and has no emulator for them: install one (Debian: qemu-user-static and binfmt-support), or use COPY only"
    );
    Some(missing(step, message))
}

/// Whether the kernel has an emulator for a processor: one that was opened when it was registered
/// (flag F), for it is not in the step's root.
fn binfmt_runs(architecture: &str) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "ppc64le" => "ppc64le",
        other => other,
    };
    let path = format!("/proc/sys/fs/binfmt_misc/qemu-{name}");
    let text = host::read_to_string(path).unwrap_or_default();
    let fixed = |line: &str| line.starts_with("flags:") && line.contains('F');
    text.starts_with("enabled") && text.lines().any(fixed)
}

/// `/etc/hosts`. This machine is only reached by steps that share its network.
fn hosts(hostname: &str, extra: &[(String, String)], network: kiln_sandbox::Network) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        let address = match address.as_str() {
            HOST_GATEWAY if network != kiln_sandbox::Network::Host => continue,
            HOST_GATEWAY => "127.0.0.1",
            given => given,
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

fn check(
    step: &Step,
    exec: &Exec,
    finished: &Finished,
    last_output: &str,
) -> Result<(), EngineError> {
    if let Exit::NotExecuted { reason, .. } = &finished.exit
        && reason.contains("xec format")
        && let Some(error) = foreign(step)
    {
        return Err(error);
    }
    let how = match &finished.exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) if exec.accept_status.contains(code) => return Ok(()),
        Exit::Code(127) => "exit code: 127 (a program it calls was not found)".to_owned(),
        Exit::Code(code) => format!("exit code: {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
        Exit::OutOfMemory => "killed because the machine ran out of memory: run fewer steps at once with --jobs, or give it more".to_owned(),
        Exit::NotExecuted { reason, code } => format!("{reason} (exit code: {code})"),
        Exit::Killed => return Err(EngineError::Cancelled),
    };
    let tail: String = {
        let lines: Vec<&str> = last_output.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    };
    Err(EngineError::Step(Box::new(StepFailure {
        name: step.name.to_string(),
        command: exec.args.join(" "),
        how,
        location: step.location.clone(),
        last_output: tail,
        changed: ChangedFiles::default(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_written_now_are_not_older_than_now() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..200 {
            let started = now();
            let path = folder.path().join(name.to_string());
            std::fs::write(&path, "").unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            let written = Timestamp {
                seconds: metadata.mtime(),
                nanos: u32::try_from(metadata.mtime_nsec()).unwrap(),
            };
            assert!(written >= started, "{written:?} is before {started:?}");
        }
    }
}
