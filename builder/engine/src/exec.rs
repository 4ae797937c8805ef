//! Executes a command in a sandbox, and brings the changes of file operations about.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::scan::upper::{self, UpperOptions};
use kiln_cache::{Staging, Tree, Volume, VolumeSharing};
use kiln_graph::{
    CacheMount, Digest, Entry, Exec, FileAction, Files, ImagePath, Manifest, MountKind, Network,
    Node, Op, Security, Sharing, Step, StepId, Timestamp, TreeId,
};
use kiln_sandbox::{Exit, Finished, Mount, Output, Root, SandboxError, Spec, User, resolve_user};
use rustix::event::{PollFd, PollFlags, poll};

use crate::copied::copy_out;
use crate::engine::DefaultNetwork;
use crate::files::{Surroundings, apply};
use crate::layers::view_of;
use crate::snapshot::StepResult;
use crate::step::Shared;
use crate::view::{Layer, View};
use crate::{EngineError, Event, StepFailure, Stream};

/// How much of a failed step's output is shown again.
const LAST_OUTPUT: usize = 16 * 1024;
const DEFAULT_SHM: u64 = 64 << 20;
const HOSTNAME: &str = "buildkitsandbox";

/// Mounts, and the variables that speak of them.
type Mounted = (Vec<Mount>, Vec<(String, String)>);

/// What must live as long as the command runs.
#[derive(Default)]
struct Held {
    volumes: Vec<Volume>,
    scratch: Vec<Staging>,
}

impl Shared<'_> {
    /// Runs a command and stores what it changed.
    pub(crate) fn execute(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        let attempt = self.attempt(id, step, exec, inputs);
        match attempt {
            Err(EngineError::Sandbox {
                source: SandboxError::Setup { what, reason, .. },
                ..
            }) if what.contains("overlay")
                && !self.without_overlay.swap(true, Ordering::SeqCst) =>
            {
                self.warn(&format!(
                    "overlayfs can't be used here ({reason}): steps copy their root, which is slower; 'kiln doctor' says more"
                ));
                self.attempt(id, step, exec, inputs)
            }
            other => other,
        }
    }

    fn attempt(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        let root = self.snapshot(&inputs[exec.root.index()])?;
        let trees = self.engine.trees(&root, &*self.request.events)?;
        let base = view_of(&trees)?;
        let staging = self.engine.store.staging()?;
        let mut held = Held::default();
        let user = self.user(step, exec, &base)?;
        let (mounts, secret_env) = self.mounts(step, exec, inputs, &mut held)?;
        let root = self.root(&trees, &base, &staging)?;
        let spec = self.spec(exec, root, &user, mounts, secret_env);
        let started = now();
        let (finished, last_output) = self.run_process(id, step, &spec)?;
        check(step, exec, &finished, &last_output)?;
        drop(held);
        let (staging, manifest) = self.changes(staging, started, &base, &finished)?;
        Ok(self.engine.store.commit(staging, manifest)?)
    }

    fn user(&self, step: &Step, exec: &Exec, base: &View) -> Result<User, EngineError> {
        let spec = exec.user.as_deref().unwrap_or("");
        let found = resolve_user(spec, &base.text("/etc/passwd"), &base.text("/etc/group"));
        let mut user = found.map_err(|error| EngineError::Missing {
            message: error.to_string(),
            location: step.location.clone(),
        })?;
        if !self.engine.gives_away() && (user.uid, user.gid) != (0, 0) {
            self.warn_once("steps run as root, for there is only one user id here; 'kiln doctor' says what to install");
            (user.uid, user.gid, user.groups) = (0, 0, Vec::new());
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
        let network = match (exec.network, self.request.network) {
            (Network::None, _) | (Network::Default, DefaultNetwork::None) => {
                kiln_sandbox::Network::None
            }
            _ => kiln_sandbox::Network::Host,
        };
        let text = |target: &str, content: String| Mount {
            target: target.into(),
            kind: kiln_sandbox::MountKind::File {
                content: content.into_bytes(),
                mode: 0o644,
                uid: 0,
                gid: 0,
            },
        };
        let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        mounts.insert(0, text("/etc/hosts", hosts(&hostname, &exec.extra_hosts)));
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
            in_user_namespace: self.engine.identity.is_in_user_namespace(),
            terminal: false,
        }
    }

    fn root(&self, trees: &[Tree], base: &View, staging: &Staging) -> Result<Root, EngineError> {
        if self.without_overlay.load(Ordering::SeqCst) {
            self.copy_out(&base.flatten(), staging)?;
            return Ok(Root::Folder(staging.fs().to_owned()));
        }
        let mut lowers = self.lowers(trees.iter().map(|tree| (tree.id(), tree.fs())));
        if lowers.is_empty() {
            lowers.push(self.engine.store.empty_tree()?.fs());
        }
        let (upper, work) = (staging.fs().to_owned(), staging.work().to_owned());
        Ok(Root::Overlay {
            lowers,
            upper,
            work,
        })
    }

    /// Empty trees show nothing, and overlayfs has a limit of 500 layers.
    fn lowers(&self, trees: impl Iterator<Item = (TreeId, PathBuf)>) -> Vec<PathBuf> {
        trees
            .filter(|(id, _)| *id != self.empty)
            .map(|(_, fs)| fs)
            .collect()
    }

    fn mounts(
        &self,
        step: &Step,
        exec: &Exec,
        inputs: &[StepResult],
        held: &mut Held,
    ) -> Result<Mounted, EngineError> {
        let mut mounts = Vec::new();
        let mut env = Vec::new();
        for mount in &exec.mounts {
            let target = PathBuf::from(mount.target.to_string());
            let kind = match &mount.kind {
                MountKind::Bind {
                    from,
                    source,
                    writable,
                } => Some(self.bind(step, &inputs[from.index()], source, *writable, held)?),
                MountKind::Cache(cache) => Some(self.cache(cache, inputs, held)?),
                MountKind::Tmpfs { size } => Some(kiln_sandbox::MountKind::Tmpfs {
                    size: *size,
                    mode: 0o1777,
                }),
                MountKind::Inline { content, mode } => Some(kiln_sandbox::MountKind::File {
                    content: content.clone(),
                    mode: *mode,
                    uid: 0,
                    gid: 0,
                }),
                MountKind::Secret(secret) => self.secret(step, secret, &mut env)?,
                MountKind::Ssh(ssh) => match self.request.secrets.ssh_agent(&ssh.id) {
                    Some(source) => {
                        env.push(("SSH_AUTH_SOCK".to_owned(), mount.target.to_string()));
                        Some(kiln_sandbox::MountKind::Bind {
                            source,
                            read_only: false,
                        })
                    }
                    None if ssh.required => {
                        return Err(missing(
                            step,
                            format!(
                                "the step needs the SSH agent '{}': give --ssh {}",
                                ssh.id, ssh.id
                            ),
                        ));
                    }
                    None => None,
                },
            };
            mounts.extend(kind.map(|kind| Mount { target, kind }));
        }
        Ok((mounts, env))
    }

    fn secret(
        &self,
        step: &Step,
        secret: &kiln_graph::SecretMount,
        env: &mut Vec<(String, String)>,
    ) -> Result<Option<kiln_sandbox::MountKind>, EngineError> {
        let given = self.request.secrets.secret(&secret.id).map_err(|reason| {
            missing(
                step,
                format!("the secret '{}' can't be read: {reason}", secret.id),
            )
        })?;
        let Some(value) = given else {
            if secret.required {
                return Err(missing(
                    step,
                    format!(
                        "the step needs the secret '{}': give --secret id={},src=FILE",
                        secret.id, secret.id
                    ),
                ));
            }
            return Ok(None);
        };
        if let Some(name) = &secret.env {
            env.push((
                name.clone(),
                String::from_utf8_lossy(value.expose()).into_owned(),
            ));
        }
        let (mode, uid, gid) = (secret.mode, secret.uid, secret.gid);
        let content = value.expose().to_vec();
        Ok(secret.as_file.then_some(kiln_sandbox::MountKind::File {
            content,
            mode,
            uid,
            gid,
        }))
    }

    fn bind(
        &self,
        step: &Step,
        from: &StepResult,
        source: &ImagePath,
        writable: bool,
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let view = match from {
            StepResult::Folder(folder) => {
                let tree = self.import(folder, source)?;
                Arc::new(View::new(vec![Layer {
                    manifest: tree.manifest()?,
                    root: tree.fs(),
                }]))
            }
            StepResult::Snapshot(_) => self.view(from)?,
        };
        let path = view.resolve(source, true);
        let found = view.get(&path);
        if let Some(found) = found.filter(|found| !found.entry.is_directory()) {
            return Ok(kiln_sandbox::MountKind::Bind {
                source: view.host_path(&found),
                read_only: true,
            });
        }
        let lowers = view.stack_of(&path);
        if lowers.is_empty() || (found.is_none() && !path.is_root()) {
            return Err(missing(
                step,
                format!("bind mount: \"{source}\": not found in its source"),
            ));
        }
        if let ([only], false) = (&lowers[..], writable) {
            return Ok(kiln_sandbox::MountKind::Bind {
                source: only.clone(),
                read_only: true,
            });
        }
        if self.without_overlay.load(Ordering::SeqCst) {
            return self.bind_copy(&view, &path, writable, held);
        }
        let upper = match writable {
            false => None,
            true => {
                let staging = self.engine.store.staging()?;
                let places = (staging.fs().to_owned(), staging.work().to_owned());
                held.scratch.push(staging);
                Some(places)
            }
        };
        Ok(kiln_sandbox::MountKind::Overlay { lowers, upper })
    }

    /// A copy of a folder that is thrown away afterwards.
    fn bind_copy(
        &self,
        view: &View,
        folder: &ImagePath,
        writable: bool,
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let staging = self.engine.store.staging()?;
        self.copy_out(&view.flatten(), &staging)?;
        let source = folder.under(staging.fs());
        held.scratch.push(staging);
        Ok(kiln_sandbox::MountKind::Bind {
            source,
            read_only: !writable,
        })
    }

    fn copy_out(&self, files: &[(Entry, PathBuf)], staging: &Staging) -> Result<(), EngineError> {
        copy_out(files, staging.fs(), self.engine.gives_away()).map_err(|source| {
            EngineError::Output {
                what: "a copy of the root".to_owned(),
                source,
            }
        })
    }

    fn cache(
        &self,
        cache: &CacheMount,
        inputs: &[StepResult],
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let sharing = match cache.sharing {
            Sharing::Shared => VolumeSharing::Shared,
            Sharing::Private => VolumeSharing::Private,
            Sharing::Locked => VolumeSharing::Locked,
        };
        let volume = self.engine.store.volume(&cache.id, sharing)?;
        let folder = volume.path().to_owned();
        let output = |source| EngineError::Output {
            what: format!("cache volume {}", cache.id),
            source,
        };
        if volume.is_new() {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(cache.mode);
            std::fs::set_permissions(&folder, mode).map_err(output)?;
            if self.engine.gives_away() {
                std::os::unix::fs::chown(&folder, Some(cache.uid), Some(cache.gid))
                    .map_err(output)?;
            }
            if let Some(from) = cache.from {
                let view = self.view(&inputs[from.index()])?;
                fill(&view, &cache.source, &folder).map_err(output)?;
            }
        }
        held.volumes.push(volume);
        Ok(kiln_sandbox::MountKind::Bind {
            source: folder,
            read_only: cache.read_only,
        })
    }

    /// Runs a process to its end, telling what it writes; keeps the last of it.
    fn run_process(
        &self,
        id: StepId,
        step: &Step,
        spec: &Spec,
    ) -> Result<(Finished, String), EngineError> {
        let failed = |source| EngineError::Sandbox {
            name: step.name.to_string(),
            location: step.location.clone(),
            source,
        };
        let mut child = self
            .engine
            .sandbox
            .spawn(spec, Output::Piped)
            .map_err(failed)?;
        let killer = child.killer();
        let _guard = self.request.cancel.on_cancel(move || killer.kill());
        let mut last = Vec::new();
        if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
            let mut tell = |stream, bytes: &[u8]| {
                last.extend_from_slice(bytes);
                if last.len() > LAST_OUTPUT * 2 {
                    last.drain(..last.len() - LAST_OUTPUT);
                }
                let (step, bytes) = (id.into(), bytes.to_vec());
                self.request.events.event(Event::Output {
                    step,
                    stream,
                    bytes,
                });
            };
            pump(stdout, stderr, &mut tell);
        }
        let finished = child.wait().map_err(failed)?;
        if finished.exit == Exit::Killed {
            return Err(EngineError::Cancelled);
        }
        Ok((finished, String::from_utf8_lossy(&last).into_owned()))
    }

    /// What the command changed, without the traces of mount points.
    fn changes(
        &self,
        staging: Staging,
        started: Timestamp,
        base: &View,
        finished: &Finished,
    ) -> Result<(Staging, Manifest), EngineError> {
        let owner = |path: &ImagePath, uid: u32, gid: u32| match base.get(path) {
            Some(found) if !self.engine.gives_away() => (found.entry.uid, found.entry.gid),
            _ => (uid, gid),
        };
        if self.without_overlay.load(Ordering::SeqCst) {
            return self.engine.changes_of_copy(&staging, base, started, &owner);
        }
        let xattrs = self.engine.store.xattrs();
        let options = UpperOptions {
            xattrs,
            started,
            owner: &owner,
        };
        let manifest = upper::scan(staging.fs(), &options)?;
        let manifest = without_traces(manifest, base, finished, &staging);
        Ok((staging, manifest))
    }

    /// Carries file operations out and stores what they changed.
    pub(crate) fn apply_files(
        &self,
        step: &Step,
        files: &Files,
        inputs: &[StepResult],
    ) -> Result<Tree, EngineError> {
        let base = match files.base {
            Some(input) => self.view(&self.as_snapshot(&inputs[input.index()])?)?,
            None => Arc::new(View::default()),
        };
        let mut views = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            let is_base = files.base.is_some_and(|base| base.index() == number);
            views.push(if is_base {
                base.clone()
            } else {
                self.view(input)?
            });
        }
        let staging = self.engine.store.staging()?;
        let around = Surroundings {
            base: &base,
            inputs: &views,
            folder: staging.fs(),
            opaque_xattr: self.engine.store.xattrs().opaque(),
            give_away: self.engine.gives_away(),
            previous: self.previous_copy(step)?,
            now: now(),
        };
        let applied = apply(files, &around).map_err(|source| EngineError::Files {
            location: step.location.clone(),
            source,
        })?;
        drop(around);
        Ok(self.engine.store.commit(staging, applied.manifest)?)
    }

    fn as_snapshot(&self, result: &StepResult) -> Result<StepResult, EngineError> {
        Ok(StepResult::Snapshot(self.snapshot(result)?))
    }

    /// The last result of the same instruction, whose unchanged files can be shared.
    fn previous_copy(&self, step: &Step) -> Result<Option<Layer>, EngineError> {
        let Some(name) = copy_name(step) else {
            return Ok(None);
        };
        let Some(id) = self.engine.store.memo::<TreeId>("copy", &name)? else {
            return Ok(None);
        };
        let Some(tree) = self.engine.store.tree(&id)? else {
            return Ok(None);
        };
        Ok(Some(Layer {
            manifest: tree.manifest()?,
            root: tree.fs(),
        }))
    }

    pub(crate) fn remember_copy(&self, step: &Step, tree: &Tree) -> Result<(), EngineError> {
        if let Some(name) = copy_name(step) {
            self.engine.store.put_memo("copy", &name, &tree.id())?;
        }
        Ok(())
    }
}

/// Names an instruction that copies files, whatever they contain.
fn copy_name(step: &Step) -> Option<Digest> {
    let Op::Files(files) = &step.op else {
        return None;
    };
    let copies = files
        .actions
        .iter()
        .any(|action| matches!(action, FileAction::Copy(_)));
    copies.then(|| {
        let place = step
            .location
            .as_ref()
            .map(|at| at.file.to_string())
            .unwrap_or_default();
        Digest::of(format!("{place}\n{}", step.name.text).as_bytes())
    })
}

fn missing(step: &Step, message: String) -> EngineError {
    EngineError::Missing {
        message,
        location: step.location.clone(),
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: now.as_secs().cast_signed(),
        nanos: now.subsec_nanos(),
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
    env.extend(
        exec.proxy
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    for (name, value) in secrets {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

fn hosts(hostname: &str, extra: &[(String, String)]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// Reads two pipes until both end.
fn pump(
    mut stdout: impl Read + std::os::fd::AsFd,
    mut stderr: impl Read + std::os::fd::AsFd,
    tell: &mut dyn FnMut(Stream, &[u8]),
) {
    let mut open = [true, true];
    let mut buffer = vec![0; 64 * 1024];
    while open[0] || open[1] {
        let events = |open| {
            if open {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let ready: Vec<bool> = {
            let mut polled = [
                PollFd::from_borrowed_fd(stdout.as_fd(), events(open[0])),
                PollFd::from_borrowed_fd(stderr.as_fd(), events(open[1])),
            ];
            match poll(&mut polled, None) {
                Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
        };
        if open[0] && ready[0] {
            open[0] = forward(&mut stdout, &mut buffer, Stream::Stdout, tell);
        }
        if open[1] && ready[1] {
            open[1] = forward(&mut stderr, &mut buffer, Stream::Stderr, tell);
        }
        // A closed pipe wakes us for ever: go on with the other one alone.
        if open[0] != open[1] {
            let (rest, stream): (&mut dyn Read, Stream) = if open[0] {
                (&mut stdout, Stream::Stdout)
            } else {
                (&mut stderr, Stream::Stderr)
            };
            while forward(rest, &mut buffer, stream, tell) {}
            return;
        }
    }
}

/// Whether there is more to come.
fn forward(
    from: &mut dyn Read,
    buffer: &mut [u8],
    stream: Stream,
    tell: &mut dyn FnMut(Stream, &[u8]),
) -> bool {
    match from.read(buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            tell(stream, &buffer[..count]);
            true
        }
    }
}

fn check(
    step: &Step,
    exec: &Exec,
    finished: &Finished,
    last_output: &str,
) -> Result<(), EngineError> {
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
    })))
}

/// Drops unchanged copies of folders in which only mount points were made for a while.
fn without_traces(
    manifest: Manifest,
    base: &View,
    finished: &Finished,
    staging: &Staging,
) -> Manifest {
    let mut suspects: Vec<ImagePath> = finished
        .mount_parents
        .iter()
        .map(|path| base.resolve(&ImagePath::new(path.to_string_lossy().as_bytes()), true))
        .flat_map(|path| path.ancestors().chain([path.clone()]).collect::<Vec<_>>())
        .collect();
    suspects.sort();
    suspects.dedup();
    let mut entries = manifest.into_entries();
    for suspect in suspects.iter().rev() {
        let is_alone = entries
            .iter()
            .filter(|entry| entry.path.starts_with(suspect))
            .count()
            == 1;
        let same = entries
            .iter()
            .find(|entry| entry.path == *suspect)
            .is_some_and(|entry| {
                let was = base.get(suspect).map(|found| found.entry);
                was.is_some_and(|was| same_folder(was, entry))
            });
        if is_alone && same && std::fs::remove_dir(suspect.under(staging.fs())).is_ok() {
            entries.retain(|entry| entry.path != *suspect);
        }
    }
    Manifest::new(entries)
}

fn same_folder(was: &Entry, is: &Entry) -> bool {
    matches!(is.node, Node::Directory { opaque: false })
        && (was.mode, was.uid, was.gid, &was.xattrs) == (is.mode, is.uid, is.gid, &is.xattrs)
}

/// Fills a new cache volume.
fn fill(view: &View, source: &ImagePath, folder: &std::path::Path) -> std::io::Result<()> {
    let source = view.resolve(source, true);
    for found in view.below(&source) {
        let relative = ImagePath::new(found.entry.path.strip_prefix(&source).unwrap_or_default());
        if relative.is_root() {
            continue;
        }
        let target = relative.under(folder);
        match &view.linked(&found).node {
            Node::Directory { .. } => std::fs::create_dir_all(&target)?,
            Node::Symlink { target: points_to } => {
                let points_to: &std::ffi::OsStr =
                    std::os::unix::ffi::OsStrExt::from_bytes(points_to);
                std::os::unix::fs::symlink(points_to, &target)?;
            }
            Node::File { .. } => {
                kiln_cache::share(
                    &view.host_path(&found),
                    &target,
                    kiln_cache::Sharing::ContentOnly,
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}
