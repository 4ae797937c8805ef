//! Where inodes and contents are.

use std::io;

use super::format::{BLOCK, INODE_SIZE, INODES, too_large};
use super::nodes::{Content, INode, Nodes};

/// Inodes begin at multiples of this, in bytes.
const SLOT: u64 = 32;
/// An inode with its attributes and the end of its content takes at most so much, in bytes: more would
/// leave blocks of inodes half empty.
const MAX_INLINE: u64 = 2048;

/// Where one inode and its content are.
pub(super) struct Place {
    /// Where the inode is, in bytes.
    pub(super) inode: u64,
    /// The first block of its content; 0 where all of it is behind the inode.
    pub(super) block: u32,
    /// How many bytes of the content are in blocks.
    pub(super) full: u64,
    /// Whether the end of the content is behind the inode.
    pub(super) is_inline: bool,
}

pub(super) struct Layout {
    /// In the order of the inodes.
    pub(super) places: Vec<Place>,
    /// The length of everything up to the contents, in bytes.
    pub(super) metadata: u64,
    /// How many blocks the image has.
    pub(super) blocks: u32,
}

impl Layout {
    pub(super) fn of(nodes: &Nodes<'_>) -> io::Result<Self> {
        let mut end = INODES;
        let mut places = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let place = place(node, end);
            end = place.inode + INODE_SIZE + node.xattrs.len() as u64;
            if place.is_inline {
                end += node.size() - place.full;
            }
            places.push(place);
        }
        let metadata = end.next_multiple_of(BLOCK);
        let mut block = metadata / BLOCK;
        for place in places.iter_mut().filter(|place| place.full > 0) {
            place.block = u32::try_from(block).map_err(|_| too_large("the image"))?;
            block += place.full.div_ceil(BLOCK);
        }
        Ok(Self {
            places,
            metadata,
            blocks: u32::try_from(block).map_err(|_| too_large("the image"))?,
        })
    }

    /// The number of an inode.
    pub(super) fn number(&self, node: usize) -> u64 {
        self.places[node].inode / SLOT
    }
}

/// Where an inode comes behind what is there already. The end of its content must be in one block.
fn place(node: &INode<'_>, end: u64) -> Place {
    let size = node.size();
    let tail = size % BLOCK;
    let head = INODE_SIZE + node.xattrs.len() as u64;
    let has_content = !matches!(node.content, Content::Special(_));
    let is_inline = has_content && tail > 0 && head + tail <= MAX_INLINE;
    let mut start = end.next_multiple_of(SLOT);
    if is_inline && start / BLOCK != (start + head + tail - 1) / BLOCK {
        start = start.next_multiple_of(BLOCK);
    }
    Place {
        inode: start,
        block: 0,
        full: if is_inline { size - tail } else { size },
        is_inline,
    }
}
