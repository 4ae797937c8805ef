//! What to run, and in what surroundings. Sent to the helper as JSON.

use std::path::{Path, PathBuf};

use crate::{Identity, Ways};
use kiln_graph::UnixId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// One process to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments; a program without a slash is looked up in `env`'s `PATH`.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// User.
    pub uid: UnixId,
    /// Group.
    pub gid: UnixId,
    /// More groups.
    pub groups: Vec<UnixId>,
    /// Host name.
    pub hostname: String,
    /// The root filesystem.
    pub root: Root,
    /// What else is mounted, in order.
    pub mounts: Vec<Mount>,
    /// What the process can reach.
    pub network: Network,
    /// Resource limits: name as in `setrlimit(2)` without `RLIMIT_` in lower case, soft, hard.
    pub limits: Vec<(String, u64, u64)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// All capabilities, no system call filter, nothing masked.
    pub insecure: bool,
    /// What becomes of calls that change owners or users.
    pub owner_calls: OwnerCalls,
    /// Whether the mounts are made in a user namespace.
    pub in_user_namespace: bool,
    /// How the process is kept apart.
    pub ways: Ways,
    /// The caller gives a terminal as standard output: it becomes the command's own, standard
    /// input too (instead of `/dev/null`).
    pub terminal: bool,
}

impl Spec {
    /// Tries the whole preparation on empty directories: the command isn't there and so not executed.
    #[must_use]
    pub fn probe(lower: &Path, upper: &Path, work: &Path, identity: Identity) -> Self {
        let lowers = vec![lower.to_owned().into()];
        Self {
            args: vec!["/probe".to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
            groups: Vec::new(),
            hostname: "probe".to_owned(),
            root: Root::Overlay {
                lowers,
                upper: upper.to_owned(),
                work: work.to_owned(),
            },
            mounts: Vec::new(),
            network: Network::Host,
            limits: Vec::new(),
            shm_size: 1 << 20,
            insecure: false,
            owner_calls: match identity {
                Identity::Single => OwnerCalls::Faked,
                _ => OwnerCalls::Real,
            },
            in_user_namespace: identity.is_in_user_namespace(),
            ways: Ways::NAMESPACES,
            terminal: false,
        }
    }
}

/// What becomes of calls that change owners or users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerCalls {
    /// They do what they say.
    Real,
    /// They seem to succeed: for user namespaces with a single id.
    Faked,
    /// The same, but a command that asks for another id than root is ended at once, and fails to be run:
    /// what it does would be another thing where there are more ids.
    Refused,
}

/// The root filesystem.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// Directories stacked by overlayfs.
    Overlay {
        /// Lowest first; at least one.
        lowers: Vec<Place>,
        /// Takes the changes.
        upper: PathBuf,
        /// Empty, on the same file system as `upper`.
        work: PathBuf,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// A file or directory of the host.
///
/// `inside` is looked up below `directory` without following a link or leaving it: whoever can change
/// what lies below can't lead a mount elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// A directory, or the file itself, whose path only the caller can change.
    pub directory: PathBuf,
    /// What is meant below it; empty: `directory` itself.
    pub inside: PathBuf,
}

impl From<PathBuf> for Place {
    fn from(directory: PathBuf) -> Self {
        Self {
            directory,
            inside: PathBuf::new(),
        }
    }
}

impl Place {
    /// What lies at `inside` below `directory`; a leading slash of `inside` doesn't count.
    #[must_use]
    pub fn below(directory: &Path, inside: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            inside: inside.strip_prefix("/").unwrap_or(inside).to_owned(),
        }
    }

    /// The path, for what nobody else can change meanwhile.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self.inside.as_os_str().is_empty() {
            true => self.directory.clone(),
            false => self.directory.join(&self.inside),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Something mounted inside the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute inside the root; made when missing and removed again afterwards.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// The file or directory.
        source: Place,
        /// Whether it can't be written.
        read_only: bool,
    },
    /// Directories stacked by overlayfs.
    Overlay {
        /// Lowest first; at least one.
        lowers: Vec<Place>,
        /// Takes the changes, with a working directory; `None`: can't be written.
        upper: Option<(PathBuf, PathBuf)>,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file in memory.
    File {
        /// The content; wiped when dropped.
        content: Zeroizing<Vec<u8>>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: UnixId,
        /// Group.
        gid: UnixId,
    },
}

/// What the process can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// What the caller can.
    Host,
    /// Loopback only.
    None,
    /// What the caller can, but from a network namespace of its own, through `pasta`: nothing
    /// that listens on the caller's loopback is reached.
    Sandbox,
}
