//! Directories: blocks of entries of 12 bytes each (inode, offset of the name in the block, type), then
//! their names. All names of a directory are in order, also across blocks.

use super::format::{BLOCK, ROOT};
use super::layout::Layout;

const ENTRY: usize = 12;

/// A name in a directory.
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    /// Whose it is: an index.
    pub(super) node: usize,
    /// See [`kind`].
    pub(super) kind: u8,
}

/// The names that each directory has of itself.
pub(super) fn own_names() -> Vec<Name> {
    let name = |name: &[u8]| Name {
        name: name.to_vec(),
        node: ROOT,
        kind: 2,
    };
    vec![name(b"."), name(b"..")]
}

/// What an entry says that it names.
pub(super) fn kind(mode: u16) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => 1,
        0o040_000 => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        _ => 7,
    }
}

/// The names of each block.
fn blocks(names: &[Name]) -> Vec<&[Name]> {
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (at, name) in names.iter().enumerate() {
        let more = ENTRY + name.name.len();
        if used + more > BLOCK as usize {
            blocks.push(&names[start..at]);
            (start, used) = (at, 0);
        }
        used += more;
    }
    blocks.push(&names[start..]);
    blocks
}

fn used(names: &[Name]) -> usize {
    names.iter().map(|name| ENTRY + name.name.len()).sum()
}

/// The length of a directory in bytes: all its blocks but the last one are full.
pub(super) fn size(names: &[Name]) -> u64 {
    let blocks = blocks(names);
    let last = blocks.last().map_or(0, |last| used(last));
    (blocks.len() as u64 - 1) * BLOCK + last as u64
}

/// The bytes of a directory.
pub(super) fn encode(names: &[Name], layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    for block in blocks(names) {
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        let mut offset = block.len() * ENTRY;
        for name in block {
            out.extend(layout.number(name.node).to_le_bytes());
            out.extend((offset as u16).to_le_bytes());
            out.extend([name.kind, 0]);
            offset += name.name.len();
        }
        for name in block {
            out.extend_from_slice(&name.name);
        }
    }
    out
}
