//! What is mounted for the time of a command.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_graph::{Exec, ImagePath, MountKind, Node, UnixId};
use kiln_sandbox::{Mount, Place};
use kiln_solve::{Event, Job, StepResult};
use kiln_tree::{TreePath, TreeRoot, host};
use zeroize::Zeroizing;

use super::agent::AgentSocket;
use super::failure::impossible;
use super::held::Held;
use super::mask::{Hidden, SHORTEST};
use super::root_copy::copy_out;
use crate::import::import;
use crate::secret::{SecretProvider, given};
use crate::snapshotter::Snapshotter;
use crate::view::{Found, View, view_of};
use crate::volume::VolumeFinder;
use crate::{EngineError, Needed};

/// Mounts, and the variables that speak of them.
pub(super) type Mounted = (Vec<Mount>, Vec<(String, String)>);

/// Makes ready what a step's mounts show.
pub(super) struct MountPlanner<'a> {
    pub(super) trees: &'a Snapshotter,
    pub(super) secrets: &'a dyn SecretProvider,
    pub(super) volumes: &'a VolumeFinder<'a>,
    /// Whether the step's root is a copy.
    pub(super) copies_root: bool,
    pub(super) job: &'a Job<'a>,
}

impl MountPlanner<'_> {
    pub(super) fn mounts(&self, exec: &Exec, held: &mut Held) -> Result<Mounted, EngineError> {
        let mut mounts = Vec::new();
        let mut env = Vec::new();
        let mut volumes = self.take_volumes(exec, held)?.into_iter();
        for mount in &exec.mounts {
            let target = PathBuf::from(mount.target.to_string());
            let kind = match &mount.kind {
                MountKind::Bind {
                    from,
                    source,
                    writable,
                } => {
                    let from = self.job.input(*from);
                    Some(self.bind(from, source, *writable, held)?)
                }
                MountKind::Cache(cache) => match volumes.next() {
                    Some(volume) => Some(kiln_sandbox::MountKind::Bind {
                        source: self.part_of_volume(cache, volume, held)?,
                        read_only: cache.read_only,
                    }),
                    None => None,
                },
                MountKind::Tmpfs { size } => Some(kiln_sandbox::MountKind::Tmpfs {
                    size: *size,
                    mode: 0o1777,
                }),
                MountKind::Inline { content, mode } => Some(kiln_sandbox::MountKind::File {
                    content: content.clone().into(),
                    mode: *mode,
                    uid: UnixId::ROOT,
                    gid: UnixId::ROOT,
                }),
                MountKind::Secret(secret) => self.secret(secret, &mut env, held)?,
                MountKind::Ssh(ssh) => {
                    let kind = self.ssh(ssh, held)?;
                    // As in BuildKit: the variable is there even if the socket isn't.
                    env.push(("SSH_AUTH_SOCK".to_owned(), mount.target.to_string()));
                    kind
                }
            };
            mounts.extend(kind.map(|kind| Mount { target, kind }));
        }
        Ok((mounts, env))
    }

    /// The socket of an SSH agent, if the user gave it.
    fn ssh(
        &self,
        ssh: &kiln_graph::SshMount,
        held: &mut Held,
    ) -> Result<Option<kiln_sandbox::MountKind>, EngineError> {
        let Some(agent) = self.secrets.ssh_agent(&ssh.id) else {
            return match ssh.required {
                true => Err(self.not_given(Needed::Agent(ssh.id.clone()))),
                false => Ok(None),
            };
        };
        // The user's own path, which may be a link.
        let agent = host::canonicalize(&agent).unwrap_or(agent);
        let source = match AgentSocket::is_needed(ssh) {
            true => self.own_socket(agent, ssh, held)?,
            false => agent,
        };
        Ok(Some(kiln_sandbox::MountKind::Bind {
            source: source.into(),
            read_only: false,
        }))
    }

    /// A socket with the owner and the mode that the step wants.
    fn own_socket(
        &self,
        agent: PathBuf,
        ssh: &kiln_graph::SshMount,
        held: &mut Held,
    ) -> Result<PathBuf, EngineError> {
        let staging = self.trees.store.staging()?;
        let path = staging.work().join("agent");
        let socket = AgentSocket::open(&path, agent, ssh);
        let socket = socket.map_err(|source| EngineError::Output {
            what: "the socket of an SSH agent".to_owned(),
            source,
        })?;
        held.agents.push(socket);
        held.scratch.push(staging);
        Ok(path)
    }

    fn secret(
        &self,
        secret: &kiln_graph::SecretMount,
        env: &mut Vec<(String, String)>,
        held: &mut Held,
    ) -> Result<Option<kiln_sandbox::MountKind>, EngineError> {
        let location = self.job.step.location.as_ref();
        let Some(value) = given(self.secrets, &secret.id, secret.required, location)? else {
            return Ok(None);
        };
        if self.secrets.is_sensitive(&secret.id) {
            self.hide(&secret.id, value.expose(), held);
        }
        if let Some(name) = &secret.env {
            env.push((
                name.clone(),
                String::from_utf8_lossy(value.expose()).into_owned(),
            ));
        }
        let (mode, uid, gid) = (secret.mode, secret.uid, secret.gid);
        let content = Zeroizing::new(value.expose().to_vec());
        Ok(secret.as_file.then_some(kiln_sandbox::MountKind::File {
            content,
            mode,
            uid,
            gid,
        }))
    }

    /// Has a secret masked and searched for.
    fn hide(&self, id: &str, value: &[u8], held: &mut Held) {
        let hidden = Hidden::new(id, value);
        if hidden.is_short() {
            let message = format!(
                "the secret '{id}' is shorter than {SHORTEST} bytes: it is neither masked in output nor searched for"
            );
            self.job.events.event(Event::Warning { message });
        }
        held.secrets.push(hidden);
    }

    pub(super) fn impossible(&self, message: String) -> EngineError {
        impossible(self.job.step, message)
    }

    fn not_given(&self, what: Needed) -> EngineError {
        EngineError::NotGiven {
            what,
            location: self.job.step.location.clone(),
        }
    }

    fn bind(
        &self,
        from: &StepResult,
        source: &ImagePath,
        writable: bool,
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let (view, path) = self.bound(from, source)?;
        let found = view.get(&path);
        let is_link = |found: &Found<'_>| matches!(found.entry.node, Node::Symlink { .. });
        if found.as_ref().is_some_and(is_link) {
            let text = format!("bind mount: \"{source}\": too many levels of symbolic links");
            return Err(self.impossible(text));
        }
        let mut lowers = view.stack_of(&path);
        if lowers.is_empty() && path.is_root() {
            // The empty tree has no layers.
            let empty = self.trees.store.trees().empty()?;
            lowers.push(TreeRoot::at(empty.fs()).join(ImagePath::root()));
        }
        let file = found.filter(|found| !found.entry.is_directory());
        if file.is_none() && (lowers.is_empty() || (found.is_none() && !path.is_root())) {
            let text = format!("bind mount: \"{source}\": not found in its source");
            return Err(self.impossible(text));
        }
        if held.lends() {
            return self.bind_copy(&view, &path, writable, held);
        }
        let place = match (file, &lowers[..]) {
            (Some(file), _) => Some(view.place(&file)),
            (None, [only]) if !writable => Some(only.clone()),
            _ => None,
        };
        match place {
            Some(place) => Ok(kiln_sandbox::MountKind::Bind {
                source: source_of(&place),
                read_only: true,
            }),
            None if self.copies_root => self.bind_copy(&view, &path, writable, held),
            None => self.bind_overlay(&lowers, writable, held),
        }
    }

    /// The files that a bind mount takes from, and where among them its source is, links followed.
    fn bound(
        &self,
        from: &StepResult,
        source: &ImagePath,
    ) -> Result<(Arc<View>, ImagePath), EngineError> {
        match from {
            StepResult::Directory(directory) => {
                let path = directory.manifest.resolve(source, true);
                let tree = import(self.trees, directory, &path)?;
                Ok((Arc::new(view_of(&[tree])?), path))
            }
            StepResult::Snapshot(_) => {
                let view = self.trees.view(from, self.job.events)?;
                let path = view.resolve(source, true);
                Ok((view, path))
            }
        }
    }

    /// Directories stacked; what is written is thrown away afterwards.
    fn bind_overlay(
        &self,
        lowers: &[TreePath],
        writable: bool,
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let upper = match writable {
            false => None,
            true => {
                let staging = self.trees.store.staging()?;
                let places = (staging.fs().to_owned(), staging.work().to_owned());
                held.scratch.push(staging);
                Some(places)
            }
        };
        let lowers = lowers.iter().map(source_of).collect();
        Ok(kiln_sandbox::MountKind::Overlay { lowers, upper })
    }

    /// A copy of a file or directory that is thrown away afterwards.
    fn bind_copy(
        &self,
        view: &View,
        path: &ImagePath,
        writable: bool,
        held: &mut Held,
    ) -> Result<kiln_sandbox::MountKind, EngineError> {
        let staging = self.trees.store.staging()?;
        let source = source_of(&staging.root().join(path.clone()));
        let above = path.parent().unwrap_or_else(ImagePath::root);
        let made = staging.root().create_directories(&above);
        made.map_err(|source| EngineError::Output {
            what: "a copy of what is mounted".to_owned(),
            source,
        })?;
        copy_out(self.trees, &view.one_tree_below(path), &staging)?;
        held.scratch.push(staging);
        Ok(kiln_sandbox::MountKind::Bind {
            source,
            read_only: !writable,
        })
    }
}

/// A path of a tree, to be mounted.
pub(super) fn source_of(place: &TreePath) -> Place {
    Place::below(place.root.path(), place.path.relative())
}
