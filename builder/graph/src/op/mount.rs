//! What is mounted for the time of a command.

use serde::{Deserialize, Serialize};

use crate::{ContentDigest, ImagePath, Input, UnixId};

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

impl MountKind {
    /// What of the step's inputs it shows.
    #[must_use]
    pub fn input(&self) -> Option<Input> {
        match self {
            Self::Bind { from, .. } => Some(*from),
            Self::Cache(cache) => cache.from,
            _ => None,
        }
    }
}

/// Who owns what is mounted, and what others may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountAccess {
    /// Owner.
    pub uid: UnixId,
    /// Group.
    pub gid: UnixId,
    /// Permission bits.
    pub mode: u32,
}

impl MountAccess {
    /// The super-user's.
    const fn of_root(mode: u32) -> Self {
        Self {
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
            mode,
        }
    }
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
    /// The build argument of Dockerfiles that separates the caches of builds.
    pub const NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

    /// The name of a volume in a namespace, if there is one.
    #[must_use]
    pub fn in_namespace(id: String, namespace: Option<&String>) -> String {
        match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{id}"),
            None => id,
        }
    }

    /// The owner and mode of a volume that nobody wants otherwise.
    pub const USUAL: MountAccess = MountAccess::of_root(0o755);

    pub(super) fn access(&self) -> MountAccess {
        let Self { uid, gid, mode, .. } = *self;
        MountAccess { uid, gid, mode }
    }

    /// The name of the volume: its id and, where the directory is to have another owner or mode than
    /// usual, those; where a tree fills it, which directory of it and the beginning of the digest of
    /// `filling`, that tree's content.
    /// Steps that want one id for different users, or filled with something else, get a volume each, as
    /// in BuildKit.
    #[must_use]
    pub fn volume(&self, filling: Option<ContentDigest>) -> String {
        let MountAccess { uid, gid, mode } = Self::USUAL;
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
        if let Some(filling) = filling {
            if !self.source.is_root() {
                name.push_str(&format!(";source={}", self.source));
            }
            name.push_str(&format!(";from={}", filling.0.short()));
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

impl SecretMount {
    /// The owner and mode of a file that nobody wants otherwise.
    pub const USUAL: MountAccess = MountAccess::of_root(0o400);

    pub(super) fn access(&self) -> MountAccess {
        let Self { uid, gid, mode, .. } = *self;
        MountAccess { uid, gid, mode }
    }
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

impl SshMount {
    /// The owner and mode of a socket that nobody wants otherwise.
    pub const USUAL: MountAccess = MountAccess::of_root(0o600);

    pub(super) fn access(&self) -> MountAccess {
        let Self { uid, gid, mode, .. } = *self;
        MountAccess { uid, gid, mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn cache() -> CacheMount {
        CacheMount {
            id: "npm".to_owned(),
            sharing: Sharing::Shared,
            from: None,
            source: ImagePath::root(),
            mode: 0o755,
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
            read_only: false,
        }
    }

    #[test]
    fn volumes_are_named_by_what_they_begin_with() {
        let content = |text: &[u8]| Some(ContentDigest(Digest::of(text)));
        let named = |cache: &CacheMount, filling| cache.volume(filling);
        assert_eq!(named(&cache(), None), "npm");
        let private = CacheMount {
            mode: 0o700,
            ..cache()
        };
        assert_eq!(named(&private, None), "npm;mode=0700");
        let part = CacheMount {
            source: ImagePath::new("/modules"),
            ..cache()
        };
        assert_eq!(named(&part, None), "npm");
        let filled = [
            named(&cache(), content(b"1")),
            named(&cache(), content(b"2")),
            named(&part, content(b"1")),
        ];
        assert!(filled[0].starts_with("npm;from="), "{filled:?}");
        assert!(
            filled[2].starts_with("npm;source=/modules;from="),
            "{filled:?}"
        );
        assert_ne!(filled[0], filled[1]);
    }
}
