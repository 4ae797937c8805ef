//! Entries in the terms of `stat(2)`, as file systems have them.

use kiln_graph::{Entry, Node, Timestamp};

/// Type and permissions, as `stat(2)` has them.
pub(crate) fn mode_of(entry: &Entry) -> u32 {
    let kind = match entry.node {
        Node::File { .. } | Node::HardLink { .. } | Node::Whiteout => 0o100_000,
        Node::Directory { .. } => 0o040_000,
        Node::Symlink { .. } => 0o120_000,
        Node::CharDevice { .. } => 0o020_000,
        Node::BlockDevice { .. } => 0o060_000,
        Node::Fifo => 0o010_000,
        Node::Socket => 0o140_000,
    };
    let permissions = match entry.node {
        Node::Symlink { .. } => 0o777,
        _ => entry.mode & 0o7777,
    };
    kind | permissions
}

/// A time as it is written: none is later than `latest`.
pub(crate) fn shown(entry: &Entry, latest: Option<Timestamp>) -> Timestamp {
    latest.map_or(entry.mtime, |latest| entry.mtime.min(latest))
}

/// The number of a device as the kernel writes it (`new_encode_dev`).
pub(crate) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}
