//! What a tree contains: its entries, sorted, with their content's digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encode::Encoder;
use crate::{Digest, ImagePath, TreeId, follow};

/// Bumped whenever the encoding below changes: tree ids of different versions never meet.
const TREE_VERSION: u32 = 1;

/// A modification time: seconds and nanoseconds since 1970 (seconds may be negative).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Node {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// blake3 of the content.
        digest: Digest,
    },
    /// Another name of a regular file of the same tree, which comes earlier in path order.
    HardLink {
        /// The first name.
        to: ImagePath,
    },
    /// A directory.
    Directory {
        /// Whether it hides what lower trees have at this path.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, byte for byte.
        #[serde(with = "crate::bytes_text")]
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// The path was removed: hides what lower trees have there.
    Whiteout,
}

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is.
    pub path: ImagePath,
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner, as the image says it (not as a user namespace maps it).
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Whether the time was set on purpose and so is part of the content; times that are
    /// merely when the step ran or the source was checked out are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mtime_counts: bool,
    /// Extended attributes, without those of overlayfs.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "crate::bytes_text::map"
    )]
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    #[serde(flatten)]
    pub node: Node,
}

impl Entry {
    /// A directory of root's with mode 0755, as builders make the parents they need.
    #[must_use]
    pub fn directory(path: ImagePath) -> Self {
        Self {
            path,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            mtime_counts: false,
            xattrs: BTreeMap::new(),
            node: Node::Directory { opaque: false },
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory { .. })
    }

    /// The length of a file in bytes; 0 for all else, other names of a file too.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.node {
            Node::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The entry as a directory that it lies in sees it: with paths from there on.
    #[must_use]
    pub fn seen_from(mut self, directory: &ImagePath) -> Self {
        let seen = |path: &ImagePath| match path.strip_prefix(directory) {
            Some(rest) => ImagePath::new(rest),
            None => path.clone(),
        };
        self.path = seen(&self.path);
        if let Node::HardLink { to } = &mut self.node {
            *to = seen(to);
        }
        self
    }

    /// Whether it hides what trees below its own have below its path.
    #[must_use]
    pub fn hides_below(&self) -> bool {
        match self.node {
            Node::Directory { opaque } => opaque,
            _ => true,
        }
    }

    /// What changed from one entry to another, if anything that counts did: `added`, `removed`,
    /// `content`, `link`, `type`, `mode`, `owner` or `attributes`.
    #[must_use]
    pub fn change(before: Option<&Self>, after: Option<&Self>) -> Option<&'static str> {
        let (old, new) = match (before, after) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(_)) => return Some("added"),
            (Some(_), None) => return Some("removed"),
            (None, None) => return None,
        };
        match (&old.node, &new.node) {
            (Node::File { digest: a, .. }, Node::File { digest: b, .. }) if a != b => {
                Some("content")
            }
            (Node::Symlink { target: a }, Node::Symlink { target: b }) if a != b => Some("link"),
            (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => Some("type"),
            _ if old.mode != new.mode => Some("mode"),
            _ if (old.uid, old.gid) != (new.uid, new.gid) => Some("owner"),
            _ if old.xattrs != new.xattrs => Some("attributes"),
            _ => None,
        }
    }

    /// Adds everything about this entry but its path to an encoding.
    pub fn encode_attributes(&self, out: &mut Encoder) {
        out.u32(self.mode).u32(self.uid).u32(self.gid);
        out.option(self.mtime_counts.then_some(&self.mtime), |out, time| {
            out.i64(time.seconds).u32(time.nanos);
        });
        out.seq(&self.xattrs, |out, (name, value)| {
            out.bytes(name).bytes(value);
        });
        self.node.encode(out);
    }
}

impl Node {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::File { size, digest } => out.tag(0).u64(*size).digest(digest),
            Self::HardLink { to } => out.tag(1).path(to),
            Self::Directory { opaque } => out.tag(2).bool(*opaque),
            Self::Symlink { target } => out.tag(3).bytes(target),
            Self::CharDevice { major, minor } => out.tag(4).u32(*major).u32(*minor),
            Self::BlockDevice { major, minor } => out.tag(5).u32(*major).u32(*minor),
            Self::Fifo => out.tag(6),
            Self::Socket => out.tag(7),
            Self::Whiteout => out.tag(8),
        };
    }
}

/// All entries of one tree, sorted by path, each path once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// A manifest of entries in any order; of several with the same path the last one counts.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>) -> Self {
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            entries.reverse();
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            entries.dedup_by(|later, first| later.path == first.path);
        }
        Self { entries }
    }

    /// The entries in path order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries in path order, owned.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether the tree changes nothing below it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at a path.
    #[must_use]
    pub fn get(&self, path: &ImagePath) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.cmp(path))
            .ok()?;
        self.entries.get(at)
    }

    /// `path`'s own entry, if any, and all below it.
    #[must_use]
    pub fn subtree(&self, path: &ImagePath) -> &[Entry] {
        let start = self.entries.partition_point(|entry| entry.path < *path);
        let count = self.entries[start..].partition_point(|entry| entry.path.starts_with(path));
        &self.entries[start..start + count]
    }

    /// Where a path leads, links followed inside the tree; a circle of links leads to one of them.
    #[must_use]
    pub fn resolve(&self, path: &ImagePath, follow_last: bool) -> ImagePath {
        follow(path, follow_last, |path| self.get(path))
    }

    /// The tree's identity: every entry but the times that don't count.
    #[must_use]
    pub fn id(&self) -> TreeId {
        let mut out = Encoder::new("kiln-tree", TREE_VERSION);
        out.seq(&self.entries, |out, entry| {
            out.path(&entry.path);
            entry.encode_attributes(out);
        });
        TreeId(out.finish())
    }

    /// The sum of the sizes of all files, in bytes; hard links count once.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }
}

impl FromIterator<Entry> for Manifest {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self::new(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> Entry {
        let node = Node::File {
            size: content.len() as u64,
            digest: Digest::of(content),
        };
        Entry {
            mode: 0o644,
            node,
            ..Entry::directory(ImagePath::new(path))
        }
    }

    #[test]
    fn the_last_of_equal_paths_counts() {
        let tree = Manifest::new(vec![file("/a", b"1"), file("/b", b""), file("/a", b"2")]);
        assert_eq!(tree.get(&"/a".into()), Some(&file("/a", b"2")));
        assert_eq!(tree.entries().len(), 2);
    }

    #[test]
    fn a_subtree_is_a_directory_with_all_below() {
        let paths = ["/a", "/a/x", "/a/x/y", "/a-b", "/c"];
        let tree: Manifest = paths.map(|p| file(p, b"")).into_iter().collect();
        let below: Vec<_> = tree
            .subtree(&"/a".into())
            .iter()
            .map(|e| e.path.to_string())
            .collect();
        assert_eq!(below, ["/a", "/a/x", "/a/x/y"]);
        assert_eq!(tree.subtree(&ImagePath::root()).len(), 5);
        assert!(tree.subtree(&"/b".into()).is_empty());
    }

    #[test]
    fn everything_but_idle_times_counts() {
        let base = file("/a", b"1");
        let id = |entry: &Entry| Manifest::new(vec![entry.clone()]).id();
        let later = Timestamp {
            seconds: 5,
            nanos: 6,
        };
        let idle = Entry {
            mtime: later,
            ..base.clone()
        };
        assert_eq!(id(&base), id(&idle));
        let changed = [
            Entry {
                mtime_counts: true,
                ..idle
            },
            Entry {
                mode: 0o600,
                ..base.clone()
            },
            Entry {
                uid: 1,
                ..base.clone()
            },
            Entry {
                gid: 1,
                ..base.clone()
            },
            Entry {
                xattrs: [(b"user.a".to_vec(), vec![])].into(),
                ..base.clone()
            },
            file("/a", b"2"),
            file("/b", b"1"),
        ];
        for entry in &changed {
            assert_ne!(id(&base), id(entry), "{entry:?}");
        }
    }
}
