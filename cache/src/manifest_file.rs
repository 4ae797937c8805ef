//! The stored form of a tree's manifest, format 1.
//!
//! All numbers little-endian. The header: the 8 bytes `kilntree`, `u32` version, `u64` count of
//! entries. Each entry: path (`u32` length and bytes, without the leading slash), `u32` mode,
//! `u32` uid, `u32` gid, `i64` seconds and `u32` nanoseconds of the modification time, `u8`
//! flags (1: the time counts, 2: opaque directory), `u32` count of xattrs each as two byte strings
//! (`u32` length and bytes), `u8` type and what that type has (file: `u64` size, 32 bytes blake3;
//! hard link: path; symlink: target; devices: two `u32`). At the end, 32 bytes: blake3 of all
//! before.

use std::collections::BTreeMap;

use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node, Timestamp, TreeId};

const MAGIC: &[u8; 8] = b"kilntree";
const VERSION: u32 = 1;
const TIME_COUNTS: u8 = 1;
const OPAQUE: u8 = 2;

/// The bytes to be stored.
#[must_use]
pub fn write(manifest: &Manifest) -> Vec<u8> {
    let entries = manifest.entries();
    let mut out = Writer(Vec::with_capacity(64 + entries.len() * 96));
    out.raw(MAGIC).u32(VERSION).u64(entries.len() as u64);
    for entry in entries {
        write_entry(entry, &mut out);
    }
    let sum = Digest::of(&out.0);
    out.raw(sum.as_bytes());
    out.0
}

/// The manifest in stored bytes; `None` when they are damaged or of another version.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Manifest> {
    let (content, sum) = bytes.split_last_chunk::<32>()?;
    if Digest::of(content).as_bytes() != sum {
        return None;
    }
    let mut input = Reader(content);
    if input.raw(8)? != MAGIC || input.u32()? != VERSION {
        return None;
    }
    let count = usize::try_from(input.u64()?).ok()?;
    let entries = (0..count)
        .map(|_| read_entry(&mut input))
        .collect::<Option<Vec<Entry>>>()?;
    Some(Manifest::new(entries))
}

/// The manifest in its stored form, when it is the one of `tree`, and one that files can have:
/// nothing lies below what is no directory (a stranger's link would lead there), and hard links name
/// files.
#[must_use]
pub fn read_of(bytes: &[u8], tree: &TreeId) -> Option<Manifest> {
    read(bytes).filter(|manifest| manifest.id() == *tree && can_be_files(manifest))
}

fn can_be_files(manifest: &Manifest) -> bool {
    let mut no_directory: Option<&Entry> = None;
    manifest.entries().iter().all(|entry| {
        let below = no_directory.is_some_and(|above| entry.path.starts_with(&above.path));
        if !entry.is_directory() {
            no_directory = Some(entry);
        }
        let links_well = match &entry.node {
            Node::HardLink { to } => manifest
                .get(to)
                .is_some_and(|first| matches!(first.node, Node::File { .. })),
            _ => true,
        };
        !below && links_well && (entry.is_directory() || !entry.path.is_root())
    })
}

fn write_entry(entry: &Entry, out: &mut Writer) {
    let opaque = matches!(entry.node, Node::Directory { opaque: true });
    let flags = if entry.mtime_counts { TIME_COUNTS } else { 0 } | if opaque { OPAQUE } else { 0 };
    out.bytes(entry.path.relative_bytes())
        .u32(entry.mode)
        .u32(entry.uid)
        .u32(entry.gid);
    out.raw(&entry.mtime.seconds.to_le_bytes())
        .u32(entry.mtime.nanos)
        .raw(&[flags]);
    out.count(entry.xattrs.len());
    for (name, value) in &entry.xattrs {
        out.bytes(name).bytes(value);
    }
    match &entry.node {
        Node::File { size, digest } => out.raw(&[0]).u64(*size).raw(digest.as_bytes()),
        Node::HardLink { to } => out.raw(&[1]).bytes(to.relative_bytes()),
        Node::Directory { .. } => out.raw(&[2]),
        Node::Symlink { target } => out.raw(&[3]).bytes(target),
        Node::CharDevice { major, minor } => out.raw(&[4]).u32(*major).u32(*minor),
        Node::BlockDevice { major, minor } => out.raw(&[5]).u32(*major).u32(*minor),
        Node::Fifo => out.raw(&[6]),
        Node::Socket => out.raw(&[7]),
        Node::Whiteout => out.raw(&[8]),
    };
}

fn read_entry(input: &mut Reader<'_>) -> Option<Entry> {
    let path = ImagePath::new(input.bytes()?);
    let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
    let seconds = i64::from_le_bytes(input.array()?);
    let mtime = Timestamp {
        seconds,
        nanos: input.u32()?,
    };
    let flags = input.u8()?;
    let mut xattrs = BTreeMap::new();
    for _ in 0..input.u32()? {
        xattrs.insert(input.bytes()?.to_vec(), input.bytes()?.to_vec());
    }
    let node = read_node(input, flags & OPAQUE != 0)?;
    let mtime_counts = flags & TIME_COUNTS != 0;
    Some(Entry {
        path,
        mode,
        uid,
        gid,
        mtime,
        mtime_counts,
        xattrs,
        node,
    })
}

fn read_node(input: &mut Reader<'_>, opaque: bool) -> Option<Node> {
    Some(match input.u8()? {
        0 => Node::File {
            size: input.u64()?,
            digest: Digest::from_bytes(input.array()?),
        },
        1 => Node::HardLink {
            to: ImagePath::new(input.bytes()?),
        },
        2 => Node::Directory { opaque },
        3 => Node::Symlink {
            target: input.bytes()?.to_vec(),
        },
        4 => Node::CharDevice {
            major: input.u32()?,
            minor: input.u32()?,
        },
        5 => Node::BlockDevice {
            major: input.u32()?,
            minor: input.u32()?,
        },
        6 => Node::Fifo,
        7 => Node::Socket,
        8 => Node::Whiteout,
        _ => return None,
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn count(&mut self, value: usize) -> &mut Self {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX))
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn raw(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.raw(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.raw(usize::try_from(count).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = Node> {
        let bytes = || vec(1u8.., 0..20);
        prop_oneof![
            (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, sum)| Node::File {
                size,
                digest: Digest::from_bytes(sum)
            }),
            bytes().prop_map(|to| Node::HardLink {
                to: ImagePath::new(to)
            }),
            any::<bool>().prop_map(|opaque| Node::Directory { opaque }),
            bytes().prop_map(|target| Node::Symlink { target }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Node::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Node::BlockDevice { major, minor }),
            Just(Node::Fifo),
            Just(Node::Socket),
            Just(Node::Whiteout),
        ]
    }

    prop_compose! {
        fn entry()(
            path in vec(1u8.., 0..30), mode in 0u32..0o10000, uid: u32, gid: u32, seconds: i64,
            nanos in 0u32..1_000_000_000, mtime_counts: bool, node in node(),
            xattrs in btree_map(vec(any::<u8>(), 1..9), vec(any::<u8>(), 0..9), 0..3),
        ) -> Entry {
            let mtime = Timestamp { seconds, nanos };
            Entry { path: ImagePath::new(path), mode, uid, gid, mtime, mtime_counts, xattrs, node }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in vec(entry(), 0..20)) {
            let manifest = Manifest::new(entries);
            prop_assert_eq!(read(&write(&manifest)), Some(manifest));
        }

        /// What a hostile cache can send: a right checksum over anything.
        #[test]
        fn nothing_panics(
            entries in vec(entry(), 0..4), at: prop::sample::Index, bytes in vec(any::<u8>(), 0..12),
        ) {
            let mut content = write(&Manifest::new(entries));
            content.truncate(content.len() - 32);
            let at = at.index(content.len());
            let end = content.len().min(at + bytes.len());
            content.splice(at..end, bytes);
            let sum = Digest::of(&content);
            content.extend_from_slice(sum.as_bytes());
            if let Some(manifest) = read(&content) {
                let again = write(&manifest);
                _ = read_of(&again, &manifest.id());
            }
        }

        #[test]
        fn damage_is_noticed(entries in vec(entry(), 1..5), at: prop::sample::Index, bit in 0u32..8) {
            let mut bytes = write(&Manifest::new(entries));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(read(&bytes), None);
            prop_assert_eq!(read(&bytes[..at]), None);
        }
    }

    #[test]
    fn manifests_that_no_files_can_have_are_damaged() {
        let entry = |path: &str, node: Node| Entry {
            node,
            ..Entry::directory(path.into())
        };
        let link = || Node::Symlink {
            target: b"/etc".to_vec(),
        };
        let file = || Node::File {
            size: 0,
            digest: Digest::of(b""),
        };
        let hard = |to: &str| Node::HardLink { to: to.into() };
        let directory = Node::Directory { opaque: false };
        let cases = [
            (
                vec![entry("/a", directory.clone()), entry("/a/b", file())],
                true,
            ),
            (vec![entry("/a", file()), entry("/b", hard("/a"))], true),
            (vec![entry("/a", link()), entry("/a/passwd", file())], false),
            (vec![entry("/a", link()), entry("/a/b/c", directory)], false),
            (vec![entry("/a", file()), entry("/a/x", file())], false),
            (vec![entry("/a", link()), entry("/b", hard("/a"))], false),
            (
                vec![entry("/a", link()), entry("/b", hard("/a/shadow"))],
                false,
            ),
            (vec![entry("/", link())], false),
        ];
        for (entries, sound) in cases {
            let manifest = Manifest::new(entries);
            let read = read_of(&write(&manifest), &manifest.id());
            assert_eq!(read.is_some(), sound, "{manifest:?}");
        }
    }
}
