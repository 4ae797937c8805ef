//! The superblock.

use crc::{CRC_32_ISCSI, Crc};

use super::format::{BLOCK, SUPERBLOCK};

const MAGIC: u32 = 0xe0f5_e1e2;
/// It has a checksum; the inodes have the files' times.
const COMPATIBLE: u32 = 1 | 2;
/// Blocks of 4 KiB, as a power of two.
const BLOCK_BITS: u8 = 12;

pub(super) struct Superblock {
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) root: u64,
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    /// Writes it into the image's first block, with its checksum: CRC-32C of the rest of the block,
    /// without the usual inversion at the end.
    pub(super) fn put(&self, image: &mut [u8]) {
        let start = SUPERBLOCK as usize;
        let field = |at: usize, bytes: &[u8], image: &mut [u8]| {
            image[start + at..start + at + bytes.len()].copy_from_slice(bytes);
        };
        field(0, &MAGIC.to_le_bytes(), image);
        field(8, &COMPATIBLE.to_le_bytes(), image);
        field(12, &[BLOCK_BITS], image);
        field(14, &(self.root as u16).to_le_bytes(), image);
        field(16, &self.inodes.to_le_bytes(), image);
        field(36, &self.blocks.to_le_bytes(), image);
        field(48, &self.uuid, image);
        let crc = Crc::<u32>::new(&CRC_32_ISCSI);
        let sum = !crc.checksum(&image[start..BLOCK as usize]);
        field(4, &sum.to_le_bytes(), image);
    }
}
