//! Finds parts of a large old file in new bytes, for files that are too large to be a prefix.
//!
//! The old file is cut into blocks of fixed size, each with a checksum that can be rolled over the
//! new bytes (as rsync does). A hit is compared byte by byte in the old file and extended forwards.

use std::collections::HashMap;
use std::io;

use crate::old::OldFile;

/// The length of a block in bytes.
const BLOCK: usize = 8 << 10;
/// Hits are extended by so many bytes at a time.
const STEP: usize = 64 << 10;
/// The multiplier of the checksum: odd, so that no byte falls out of it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A part of new bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// So many bytes that the old file doesn't have.
    New(usize),
    /// Bytes of the old file.
    Old { position: u64, size: usize },
}

/// Where in an old file blocks with some checksum are.
pub(crate) struct Blocks {
    by_sum: HashMap<u64, u64>,
    /// `FACTOR` to the power of the block's length, to roll a byte out.
    last: u64,
}

impl Blocks {
    /// Reads all of the file, a block at a time.
    pub(crate) fn of(old: &mut OldFile) -> io::Result<Self> {
        let mut by_sum = HashMap::new();
        let mut buffer = vec![0; BLOCK];
        let mut position = 0;
        while old.read_at(position, &mut buffer)? == BLOCK {
            by_sum.entry(sum(&buffer)).or_insert(position);
            position += BLOCK as u64;
        }
        let last = (0..BLOCK).fold(1u64, |product, _| product.wrapping_mul(FACTOR));
        Ok(Self { by_sum, last })
    }

    /// Splits new bytes into parts, in order.
    pub(crate) fn split(&self, old: &mut OldFile, new: &[u8]) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        let mut rolled = None;
        while at + BLOCK <= new.len() {
            let own = rolled.unwrap_or_else(|| sum(&new[at..at + BLOCK]));
            if let Some(position) = self.by_sum.get(&own) {
                let size = common(old, *position, &new[at..])?;
                if size >= BLOCK {
                    push_new(&mut parts, at - start);
                    parts.push(Part::Old {
                        position: *position,
                        size,
                    });
                    at += size;
                    start = at;
                    rolled = None;
                    continue;
                }
            }
            let next = new.get(at + BLOCK);
            rolled = next.map(|next| self.roll(own, new[at], *next));
            at += 1;
        }
        push_new(&mut parts, new.len() - start);
        Ok(parts)
    }

    fn roll(&self, sum: u64, gone: u8, come: u8) -> u64 {
        let shifted = sum.wrapping_mul(FACTOR).wrapping_add(value(come));
        shifted.wrapping_sub(value(gone).wrapping_mul(self.last))
    }
}

fn push_new(parts: &mut Vec<Part>, size: usize) {
    if size > 0 {
        parts.push(Part::New(size));
    }
}

/// How many bytes from the start of `new` the old file has at a position.
fn common(old: &mut OldFile, position: u64, new: &[u8]) -> io::Result<usize> {
    let mut buffer = vec![0; STEP];
    let mut size = 0;
    while size < new.len() {
        let want = STEP.min(new.len() - size);
        let count = old.read_at(position + size as u64, &mut buffer[..want])?;
        let pairs = buffer[..count].iter().zip(&new[size..]);
        let same = pairs.take_while(|(a, b)| a == b).count();
        size += same;
        if same < want {
            break;
        }
    }
    Ok(size)
}

fn sum(block: &[u8]) -> u64 {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(FACTOR).wrapping_add(value(*byte));
    block.iter().fold(0, add)
}

/// Zeros count too.
fn value(byte: u8) -> u64 {
    u64::from(byte) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn old(bytes: &[u8]) -> OldFile {
        OldFile {
            size: bytes.len() as u64,
            content: Box::new(Cursor::new(bytes.to_vec())),
        }
    }

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(seed | 1);
            (state >> 56) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    fn rebuilt(parts: &[Part], old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::New(size) => out.extend(&new[out.len()..out.len() + size]),
                Part::Old { position, size } => {
                    let start = usize::try_from(*position).unwrap();
                    out.extend(&old[start..start + size]);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn what_moved_is_found(seed in 1u64..1000, insert in 0usize..50_000, at in 0usize..90_000) {
            let before = noise(seed, 100_000);
            let mut after = before.clone();
            after.splice(at..at, noise(seed + 7, insert));
            let mut file = old(&before);
            let blocks = Blocks::of(&mut file).unwrap();
            let parts = blocks.split(&mut file, &after).unwrap();
            prop_assert!(rebuilt(&parts, &before, &after) == after);
            let copied = |part: &Part| match part {
                Part::Old { size, .. } => *size,
                Part::New(_) => 0,
            };
            let copied: usize = parts.iter().map(copied).sum();
            prop_assert!(copied + insert + 3 * BLOCK >= after.len(), "{copied}");
        }
    }

    #[test]
    fn zeros_end() {
        let zeros = vec![0; 100_000];
        let mut file = old(&zeros);
        let blocks = Blocks::of(&mut file).unwrap();
        let parts = blocks.split(&mut file, &zeros).unwrap();
        assert_eq!(
            parts,
            [Part::Old {
                position: 0,
                size: 100_000
            }]
        );
    }
}
