//! Operations: what a step does, without where it stands in the graph.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{BlobDigest, Chmod, ImagePath, StepId, UnixId};

/// One of a step's inputs, by its position in the step's list of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Input(pub u32);

impl Input {
    /// Adds a step to a list of inputs, and says which one it is.
    pub fn add(inputs: &mut Vec<StepId>, step: StepId) -> Self {
        inputs.push(step);
        Self(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX))
    }

    /// The position as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The empty tree.
    Scratch,
    /// The files of an image.
    Image(ImageSource),
    /// The files of a local directory.
    Context(ContextSource),
    /// The files of a git commit.
    Git(GitSource),
    /// One file from an HTTP server.
    Http(HttpSource),
    /// A command run in a tree.
    Exec(Box<Exec>),
    /// Changes to files that need no command.
    Files(Files),
    /// Trees stacked upon each other, lowest first, without copying.
    Merge {
        /// At least one.
        layers: Vec<Input>,
    },
}

/// An image, resolved: what its manifest says for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Where it can be had, as people write it and the image library reads it; with a digest
    /// where one is known. Not part of the definition: content is.
    pub name: String,
    /// The manifest's digest.
    pub manifest: BlobDigest,
    /// Layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Digest of the blob as it is stored.
    pub blob: BlobDigest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
}

/// A local directory that the builder is given by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextSource {
    /// The directory's name: `context` for the main one.
    pub name: String,
    /// `.dockerignore` patterns, in order, already cleaned (see [`crate::pattern`]).
    pub ignore: Vec<String>,
}

/// A commit of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// The repository's address.
    pub remote: String,
    /// Branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// The directory of the commit that is wanted; the root for all.
    pub subdir: ImagePath,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// The commit the user says it must be (full or abbreviated hexadecimal).
    pub checksum: Option<String>,
    /// Whether submodules are fetched as well.
    pub submodules: bool,
}

/// One file from an HTTP or HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSource {
    /// The address.
    pub url: String,
    /// The content's digest, when the user demands one.
    pub checksum: Option<BlobDigest>,
    /// The file's name in the resulting tree; `None`: as the answer or the address says.
    pub file_name: Option<String>,
}

/// A command run in a tree; the result is the tree with its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The tree that is the command's root.
    pub root: Input,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Proxy variables: given to the command, never part of a key.
    pub proxy: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: ImagePath,
    /// `USER[:GROUP]`, names or numbers, looked up in the root; `None`: root.
    pub user: Option<String>,
    /// What is mounted for the time of the command.
    pub mounts: Vec<Mount>,
    /// What the command can reach.
    pub network: Network,
    /// Whether confinement is lifted.
    pub security: Security,
    /// The host name; `None`: a fixed one.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits, by name as in `ulimit`: soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// How often a failing command is tried again, each time in a clean tree.
    pub retries: u32,
    /// After how long the command is killed.
    pub timeout: Option<Duration>,
    /// Exit statuses that count as success besides 0.
    pub accept_status: Vec<i32>,
}

/// Proxy settings as `docker build` knows them: given to every command, never recorded.
pub const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Names of resource limits, as `ulimit` and `getrlimit(2)` call them.
pub const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The network of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The builder's default, which the command line sets.
    #[default]
    Default,
    /// The host's own.
    Host,
    /// Loopback only.
    None,
    /// A network of its own, from which the host's is reached but not the host itself.
    Sandbox,
}

/// Confinement of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// As container runtimes confine.
    #[default]
    Sandbox,
    /// All capabilities; needs the entitlement `security.insecure`.
    Insecure,
}

/// Something mounted for the time of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub target: ImagePath,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountKind {
    /// Files of another step's tree; writes, where allowed, are thrown away.
    Bind {
        /// The tree.
        from: Input,
        /// The file or directory in it.
        source: ImagePath,
        /// Whether the command may write.
        writable: bool,
    },
    /// A volume that outlives the build.
    Cache(CacheMount),
    /// Memory.
    Tmpfs {
        /// Size limit in bytes.
        size: Option<u64>,
    },
    /// A secret, as a file in memory, as a variable, or both.
    Secret(SecretMount),
    /// An SSH agent's socket.
    Ssh(SshMount),
    /// A file whose content is part of the build file (a here-document).
    Inline {
        /// The content.
        #[serde(with = "crate::bytes_text")]
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
}

/// A volume that outlives the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// The volume's name.
    pub id: String,
    /// What happens when several steps want it at once.
    pub sharing: Sharing,
    /// A tree that fills the volume when it is new.
    pub from: Option<Input>,
    /// The directory of that tree, or of the volume.
    pub source: ImagePath,
    /// Permission bits of a new volume's directory.
    pub mode: u32,
    /// Owner of a new volume's directory.
    pub uid: UnixId,
    /// Group of a new volume's directory.
    pub gid: UnixId,
    /// Whether the command may only read.
    pub read_only: bool,
}

impl CacheMount {
    /// The owner and mode of a volume that nobody wants otherwise.
    const USUAL: (UnixId, UnixId, u32) = (UnixId::ROOT, UnixId::ROOT, 0o755);

    /// The name of the volume: its id and, where the directory is to have another owner or mode than
    /// usual, those. Steps that want one id for different users get a volume each, as in BuildKit.
    #[must_use]
    pub fn volume(&self) -> String {
        let (uid, gid, mode) = Self::USUAL;
        let mut name = self.id.clone();
        if self.uid != uid {
            name.push_str(&format!(";uid={}", self.uid));
        }
        if self.gid != gid {
            name.push_str(&format!(";gid={}", self.gid));
        }
        if self.mode != mode {
            name.push_str(&format!(";mode={:04o}", self.mode));
        }
        name
    }
}

/// What happens when several steps want one cache volume at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// All use it at once.
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// A secret given to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// The name the user gives the secret's value under.
    pub id: String,
    /// Whether it appears as a file at the mount's target.
    pub as_file: bool,
    /// The variable it appears in.
    pub env: Option<String>,
    /// Whether the step fails without it.
    pub required: bool,
    /// Permission bits of the file.
    pub mode: u32,
    /// The file's owner.
    pub uid: UnixId,
    /// The file's group.
    pub gid: UnixId,
}

/// An SSH agent given to one command, through a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshMount {
    /// The agent's name; `default` for the main one.
    pub id: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// Permission bits of the socket.
    pub mode: u32,
    /// The socket's owner.
    pub uid: UnixId,
    /// The socket's group.
    pub gid: UnixId,
}

/// Changes to files that need no command, made in order, together one change of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The tree that is changed; `None`: the empty one.
    pub base: Option<Input>,
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum FileAction {
    /// Copies files out of another tree.
    Copy(Box<CopyFiles>),
    /// Makes a directory and the directories above it, mode 0755; one that is there stays as it is.
    Directory {
        /// Where.
        path: ImagePath,
        /// Owner of the directories made; `None`: root.
        owner: Option<Owner>,
        /// Mode of the directory; those above it get 0755.
        mode: u32,
    },
    /// Writes a file.
    Write {
        /// Where; a directory that exists there, or `to_directory`, takes it under `name`.
        dest: ImagePath,
        /// Whether `dest` was written with a trailing slash.
        to_directory: bool,
        /// The file's name inside of a destination directory.
        name: String,
        /// The content.
        #[serde(with = "crate::bytes_text")]
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner; `None`: root.
        owner: Option<Owner>,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: ImagePath,
        /// Where it points.
        target: String,
        /// Owner; `None`: root.
        owner: Option<Owner>,
    },
    /// Removes a file or a directory with all below.
    Remove {
        /// Where.
        path: ImagePath,
        /// Whether the path is a pattern, for what is in the base.
        wildcard: bool,
        /// Whether a missing path is fine.
        allow_missing: bool,
    },
    /// What turns one tree into another: what the upper one has that the lower one hasn't, and marks
    /// where it lacks something. It is its operation's only action, on no base.
    Difference {
        /// The tree before.
        lower: Input,
        /// The tree after.
        upper: Input,
    },
}

/// Copies files out of another tree, with the meaning of the Dockerfile's COPY and ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFiles {
    /// The tree they come from.
    pub from: Input,
    /// What is copied: paths from that tree's root, with Go `filepath.Match` wildcards.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: ImagePath,
    /// Whether the destination is a directory whatever is there: a trailing slash, or several sources.
    pub to_directory: bool,
    /// Owner of everything copied and made; `None`: each source's own. What is unpacked from an archive
    /// keeps its owners when this is 0:0 by number: that is what frontends write unless the author
    /// wants an owner; an author's own word is written by name.
    pub owner: Option<Owner>,
    /// Mode change of everything copied.
    pub chmod: Option<Chmod>,
    /// Whether each source's path is made again below the destination (`--parents`).
    pub parents: bool,
    /// Patterns of what is left out, relative to each source directory (`--exclude`).
    pub exclude: Vec<String>,
    /// What matches one of these patterns only, relative to each source directory; all, when there are
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Whether tar archives are unpacked rather than copied (`ADD`).
    pub unpack: bool,
}

impl CopyFiles {
    /// A copy of one source into a directory, with all that it is and has.
    #[must_use]
    pub fn new(from: Input, source: impl Into<String>, dest: ImagePath) -> Self {
        Self {
            from,
            sources: vec![source.into()],
            dest,
            to_directory: true,
            owner: None,
            chmod: None,
            parents: false,
            exclude: Vec::new(),
            include: Vec::new(),
            unpack: false,
        }
    }
}

/// Who owns what is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Owner {
    /// By number.
    Ids {
        /// User.
        uid: UnixId,
        /// Group.
        gid: UnixId,
    },
    /// By name, or a number without a group, looked up in the base tree's `/etc/passwd` and
    /// `/etc/group`.
    Names {
        /// User.
        user: String,
        /// Group; `None`: the user's primary one.
        group: Option<String>,
    },
}

impl Op {
    /// The inputs this operation names, in no particular order.
    #[must_use]
    pub fn inputs(&self) -> Vec<Input> {
        match self {
            Self::Scratch | Self::Image(_) | Self::Context(_) | Self::Git(_) | Self::Http(_) => {
                Vec::new()
            }
            Self::Exec(exec) => exec.inputs(),
            Self::Files(files) => files.inputs(),
            Self::Merge { layers } => layers.clone(),
        }
    }

    /// The tree whose changes are the result; nothing for what is made from nothing or of several.
    #[must_use]
    pub fn base(&self) -> Option<Input> {
        match self {
            Self::Exec(exec) => Some(exec.root),
            Self::Files(files) => files.base,
            _ => None,
        }
    }
}

impl Exec {
    /// A command that asks for nothing more than to be run in a tree.
    #[must_use]
    pub fn new(root: Input, args: Vec<String>) -> Self {
        Self {
            root,
            args,
            env: Vec::new(),
            proxy: BTreeMap::new(),
            cwd: ImagePath::root(),
            user: None,
            mounts: Vec::new(),
            network: Network::default(),
            security: Security::default(),
            hostname: None,
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            retries: 0,
            timeout: None,
            accept_status: Vec::new(),
        }
    }

    fn inputs(&self) -> Vec<Input> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { from, .. } => Some(*from),
            MountKind::Cache(cache) => cache.from,
            _ => None,
        });
        std::iter::once(self.root).chain(mounted).collect()
    }
}

impl Files {
    fn inputs(&self) -> Vec<Input> {
        let read = self.actions.iter().flat_map(|action| match action {
            FileAction::Copy(copy) => vec![copy.from],
            FileAction::Difference { lower, upper } => vec![*lower, *upper],
            _ => Vec::new(),
        });
        self.base.into_iter().chain(read).collect()
    }
}
