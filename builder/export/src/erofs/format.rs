//! Numbers of the format.

use std::io;

use kiln_graph::{Digest, Entry, Node};
use kiln_image::layer::ContentChanged;

/// The length of a block in bytes.
pub(super) const BLOCK: u64 = 4096;
/// Where it is, in bytes.
pub(super) const SUPERBLOCK: u64 = 1024;
/// Its length in bytes.
pub(super) const SUPERBLOCK_SIZE: u64 = 128;
/// Where the inodes begin, in bytes.
pub(super) const INODES: u64 = SUPERBLOCK + SUPERBLOCK_SIZE;
/// The length of an inode in bytes.
pub(super) const INODE_SIZE: u64 = 64;
/// The root's index.
pub(super) const ROOT: usize = 0;

/// Refuses a file whose content isn't what the digest of its entry says.
pub(super) fn check(entry: &Entry, found: Digest) -> io::Result<()> {
    match entry.node {
        Node::File { digest, .. } if digest != found => {
            Err(ContentChanged(entry.path.to_string()).into())
        }
        _ => Ok(()),
    }
}

pub(super) fn too_large(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("{what} is more than EROFS can hold"),
    )
}
