//! Writes a tree as an EROFS image: one read-only file that the kernel mounts (Linux 5.4 and later),
//! uncompressed. The same tree gives the same bytes.
//!
//! The layout (Linux, `fs/erofs/erofs_fs.h`; all numbers little-endian, blocks of 4 KiB):
//!
//! - 1024 bytes that nobody reads, the superblock (128 bytes), then the inodes from byte 1152 on. An
//!   inode's number is its place in units of 32 bytes; that of the root must fit 16 bits, so it is the first.
//! - An inode is of the extended form (64 bytes), followed by its extended attributes and, when there is
//!   room for them in the same block, by the last bytes of its content ("flat inline").
//! - Behind the inodes the content of everything, each from the start of a block.

mod directory;
mod format;
mod inode;
mod layout;
mod nodes;
mod superblock;
mod xattr;

use std::io::{self, Read as _, Write};

use kiln_graph::{Digest, Entry, Node, Timestamp};
use kiln_image::layer::ContentChanged;
use kiln_tree::TreePath;

use crate::output_entry::OutputEntry;
use format::{BLOCK, ROOT, check};
use layout::Layout;
use nodes::{Content, Nodes};
use superblock::Superblock;

const CHUNK: usize = 256 << 10;

/// Writes the image of a tree, in which no time is later than `latest`.
///
/// # Errors
/// When a file can't be read or isn't what its entry says, the tree is larger than the format
/// allows, or `out` can't be written.
pub fn write_erofs(
    files: &[OutputEntry],
    latest: Option<Timestamp>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let nodes = Nodes::of(files, latest);
    let layout = Layout::of(&nodes)?;
    let mut metadata = inode::metadata(&nodes, &layout)?;
    let superblock = Superblock {
        inodes: nodes.len() as u64,
        blocks: layout.blocks,
        root: layout.number(ROOT),
        uuid: uuid(&metadata, files),
    };
    superblock.put(&mut metadata);
    out.write_all(&metadata)?;
    for (node, at) in nodes.iter().zip(&layout.places) {
        let full = at.full;
        match &node.content {
            Content::File { entry, place } if full > 0 => {
                let tail = inode::written_tail(&metadata, node, at);
                copy(entry, place, (full, tail), out)?;
            }
            Content::Bytes(bytes) if full > 0 => blocks(bytes, full, out)?,
            Content::Directory(names) if full > 0 => {
                blocks(&directory::encode(names, &layout), full, out)?;
            }
            _ => {}
        }
    }
    out.flush()
}

/// Names the image: by all that is in it.
fn uuid(metadata: &[u8], files: &[OutputEntry]) -> [u8; 16] {
    let digests = files.iter().filter_map(|(entry, _)| match &entry.node {
        Node::File { digest, .. } => Some(digest.to_string()),
        _ => None,
    });
    let mut all = Digest::of(metadata).to_string();
    all.extend(digests);
    let digest = Digest::of(all.as_bytes());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_bytes()[..16]);
    uuid
}

/// Writes the first bytes of a content.
fn blocks(bytes: &[u8], full: u64, out: &mut dyn Write) -> io::Result<()> {
    let end = usize::try_from(full).unwrap_or(usize::MAX).min(bytes.len());
    out.write_all(&bytes[..end])?;
    pad(end as u64, out)
}

/// Copies the first `full` bytes of a file, and fills the last block. With `tail`, which has been written
/// already, they must be what the entry's digest says.
fn copy(
    entry: &Entry,
    place: &TreePath,
    (full, tail): (u64, &[u8]),
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut file = place.open_file()?;
    let mut buffer = vec![0; CHUNK];
    let mut hash = blake3::Hasher::new();
    let mut left = full;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let count = file.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(ContentChanged(entry.path.to_string()).into());
        }
        hash.update(&buffer[..count]);
        out.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    hash.update(tail);
    check(entry, hash.finalize().into())?;
    pad(full, out)
}

fn pad(size: u64, out: &mut dyn Write) -> io::Result<()> {
    let zeros = size.next_multiple_of(BLOCK) - size;
    out.write_all(&[0; BLOCK as usize][..usize::try_from(zeros).unwrap_or(0)])
}
