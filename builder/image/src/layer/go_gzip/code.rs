//! Huffman codes of limited length (Larmore and Hirschberg, "A fast algorithm for optimal length-limited
//! Huffman codes", 1990), by package-merge. Optimal codes aren't unique: of equal weights packages come before
//! leaves, and of leaves the one with the lower symbol.

/// A code: for each symbol the bits as they are written, and how many.
#[derive(Clone, Debug)]
pub(super) struct Code(Vec<(u16, u8)>);

#[derive(Clone, Copy)]
struct Item {
    weight: u64,
    is_leaf: bool,
}

impl Code {
    /// The code for symbols of these frequencies; symbols that don't occur have none.
    pub(super) fn of(frequencies: &[u32], max_bits: usize) -> Self {
        Self::with_lengths(&lengths(frequencies, max_bits))
    }

    /// The canonical code with these lengths (RFC 1951, 3.2.2).
    pub(super) fn with_lengths(lengths: &[u8]) -> Self {
        let mut codes = vec![(0, 0); lengths.len()];
        let mut next = 0u16;
        for length in 1..=15 {
            next <<= 1;
            for (symbol, own) in lengths.iter().enumerate() {
                if *own == length {
                    codes[symbol] = (next.reverse_bits() >> (16 - u32::from(length)), length);
                    next += 1;
                }
            }
        }
        Self(codes)
    }

    pub(super) fn get(&self, symbol: usize) -> (u32, u32) {
        let (bits, length) = self.0[symbol];
        (bits.into(), length.into())
    }

    pub(super) fn length(&self, symbol: usize) -> u8 {
        self.0[symbol].1
    }

    /// How many bits symbols of these frequencies take.
    pub(super) fn size(&self, frequencies: &[u32]) -> u64 {
        let each = frequencies.iter().zip(&self.0);
        each.map(|(count, (_, length))| u64::from(*count) * u64::from(*length))
            .sum()
    }
}

fn lengths(frequencies: &[u32], max_bits: usize) -> Vec<u8> {
    let mut leaves: Vec<(u32, usize)> = frequencies.iter().copied().zip(0..).collect();
    leaves.retain(|(count, _)| *count > 0);
    leaves.sort_unstable();
    let mut found = vec![0; frequencies.len()];
    if leaves.len() <= 2 {
        for (_, symbol) in leaves {
            found[symbol] = 1;
        }
        return found;
    }
    for taken in taken(&leaves, max_bits.min(leaves.len() - 1)) {
        for (_, symbol) in &leaves[..taken] {
            found[*symbol] += 1;
        }
    }
    found
}

/// How many leaves are taken on each level.
fn taken(leaves: &[(u32, usize)], levels: usize) -> Vec<usize> {
    let mut rows: Vec<Vec<Item>> = Vec::with_capacity(levels);
    for _ in 0..levels {
        let below = rows.last().map_or(&[][..], Vec::as_slice);
        rows.push(row(leaves, below));
    }
    let mut wanted = 2 * leaves.len() - 2;
    let mut all = Vec::with_capacity(levels);
    for row in rows.iter().rev() {
        let own = row.iter().take(wanted);
        let leaves = own.filter(|item| item.is_leaf).count();
        all.push(leaves);
        wanted = 2 * (wanted.min(row.len()) - leaves);
    }
    all
}

/// The leaves, and the pairs of the row below, by weight.
fn row(leaves: &[(u32, usize)], below: &[Item]) -> Vec<Item> {
    let pairs = below.chunks_exact(2).map(|two| Item {
        weight: two[0].weight + two[1].weight,
        is_leaf: false,
    });
    let own = leaves.iter().map(|(count, _)| Item {
        weight: u64::from(*count),
        is_leaf: true,
    });
    let mut all: Vec<Item> = pairs.chain(own).collect();
    all.sort_by_key(|item| (item.weight, item.is_leaf));
    all
}
