//! One block: its tokens in the shortest of the three forms that deflate has.

use std::io::{self, Write};
use std::sync::LazyLock;

use super::bits::BitWriter;
use super::code::Code;

/// The symbol that ends a block.
const END: usize = 256;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
/// What a stored block can have, in bytes.
const MAX_STORED: usize = 65535;
/// The order in which the lengths of the code of code lengths are written (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// A literal, or a match: its length and distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Literal(u8),
    Match { length: u16, distance: u16 },
}

/// A symbol, and the bits that follow it.
#[derive(Clone, Copy)]
struct Coded {
    symbol: usize,
    extra: u32,
    count: u32,
}

/// RFC 1951, 3.2.5.
fn length_symbol(length: u16) -> Coded {
    let plain = |symbol| Coded {
        symbol,
        extra: 0,
        count: 0,
    };
    match length {
        258 => plain(285),
        0..=10 => plain(usize::from(length) + 254),
        _ => {
            let offset = u32::from(length) - 3;
            let count = offset.ilog2() - 2;
            Coded {
                symbol: 257 + (4 * count + (offset >> count)) as usize,
                extra: offset & ((1 << count) - 1),
                count,
            }
        }
    }
}

fn distance_symbol(distance: u16) -> Coded {
    let offset = u32::from(distance) - 1;
    if offset < 4 {
        return Coded {
            symbol: offset as usize,
            extra: 0,
            count: 0,
        };
    }
    let count = offset.ilog2() - 1;
    Coded {
        symbol: (2 * count + (offset >> count)) as usize,
        extra: offset & ((1 << count) - 1),
        count,
    }
}

static FIXED_LITERALS: LazyLock<Code> = LazyLock::new(|| {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    Code::with_lengths(&lengths)
});
static FIXED_DISTANCES: LazyLock<Code> = LazyLock::new(|| Code::with_lengths(&[5; DISTANCES]));

/// How often each symbol occurs.
struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    /// Bits that follow symbols.
    extra: u64,
}

impl Counts {
    fn of(tokens: &[Token]) -> Self {
        let mut counts = Self {
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            extra: 0,
        };
        counts.literals[END] = 1;
        for token in tokens {
            match *token {
                Token::Literal(byte) => counts.literals[usize::from(byte)] += 1,
                Token::Match { length, distance } => {
                    let (length, distance) = (length_symbol(length), distance_symbol(distance));
                    counts.literals[length.symbol] += 1;
                    counts.distances[distance.symbol] += 1;
                    counts.extra += u64::from(length.count + distance.count);
                }
            }
        }
        if counts.distances.iter().all(|count| *count == 0) {
            // A code of distances has at least one.
            counts.distances[0] = 1;
        }
        counts
    }
}

/// How many of the frequencies are written: up to the last that isn't zero.
fn used(frequencies: &[u32]) -> usize {
    frequencies
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1)
}

/// The codes of a block with codes of its own, and how these are written.
struct Dynamic {
    literals: Code,
    distances: Code,
    used: [usize; 2],
    /// The lengths of both codes, in runs: the symbol, and the bits that follow it.
    runs: Vec<Coded>,
    of_lengths: Code,
    of_lengths_used: usize,
    size: u64,
}

impl Dynamic {
    fn of(counts: &Counts) -> Self {
        let literals = Code::of(&counts.literals, 15);
        let distances = Code::of(&counts.distances, 15);
        let used = [used(&counts.literals), used(&counts.distances)];
        let lengths: Vec<u8> = (0..used[0])
            .map(|symbol| literals.length(symbol))
            .chain((0..used[1]).map(|symbol| distances.length(symbol)))
            .collect();
        let runs = runs(&lengths);
        let mut frequencies = [0; 19];
        for run in &runs {
            frequencies[run.symbol] += 1;
        }
        let of_lengths = Code::of(&frequencies, 7);
        let written = ORDER.iter().rposition(|at| frequencies[*at] > 0);
        let of_lengths_used = written.map_or(4, |last| (last + 1).max(4));
        let extra: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        let size = 3
            + 14
            + 3 * of_lengths_used as u64
            + of_lengths.size(&frequencies)
            + extra
            + literals.size(&counts.literals)
            + distances.size(&counts.distances);
        Self {
            literals,
            distances,
            used,
            runs,
            of_lengths,
            of_lengths_used,
            size,
        }
    }

    fn write_header<W: Write>(&self, out: &mut BitWriter<W>) -> io::Result<()> {
        out.add(2 << 1, 3)?;
        let [literals, distances] = self.used;
        out.add((literals - 257) as u32, 5)?;
        out.add((distances - 1) as u32, 5)?;
        out.add((self.of_lengths_used - 4) as u32, 4)?;
        for at in &ORDER[..self.of_lengths_used] {
            out.add(self.of_lengths.length(*at).into(), 3)?;
        }
        for run in &self.runs {
            write_symbol(out, &self.of_lengths, *run)?;
        }
        Ok(())
    }
}

/// Runs of code lengths (RFC 1951, 3.2.7): the longest repetitions first.
fn runs(lengths: &[u8]) -> Vec<Coded> {
    let mut runs = Vec::new();
    let mut add = |symbol: usize, extra: usize, count| {
        let extra = extra as u32;
        runs.push(Coded {
            symbol,
            extra,
            count,
        });
    };
    for run in lengths.chunk_by(|a, b| a == b) {
        let (length, mut left) = (usize::from(run[0]), run.len());
        if length == 0 {
            while left >= 11 {
                let own = left.min(138);
                add(18, own - 11, 7);
                left -= own;
            }
            if left >= 3 {
                add(17, left - 3, 3);
                left = 0;
            }
        } else {
            add(length, 0, 0);
            left -= 1;
            while left >= 3 {
                let own = left.min(6);
                add(16, own - 3, 2);
                left -= own;
            }
        }
        for _ in 0..left {
            add(length, 0, 0);
        }
    }
    runs
}

fn write_symbol<W: Write>(out: &mut BitWriter<W>, code: &Code, coded: Coded) -> io::Result<()> {
    let (bits, length) = code.get(coded.symbol);
    out.add(bits, length)?;
    out.add(coded.extra, coded.count)
}

/// Writes a block that isn't the last one. `plain` is what the tokens stand for, where that is still known.
pub(super) fn write<W: Write>(
    tokens: &[Token],
    plain: Option<&[u8]>,
    out: &mut BitWriter<W>,
) -> io::Result<()> {
    let counts = Counts::of(tokens);
    let dynamic = Dynamic::of(&counts);
    let fixed = 3 + FIXED_LITERALS.size(&counts.literals) + FIXED_DISTANCES.size(&counts.distances);
    let size = fixed.min(dynamic.size) + counts.extra;
    if let Some(plain) = plain.filter(|plain| plain.len() <= MAX_STORED)
        && (plain.len() as u64 + 5) * 8 < size
    {
        out.stored_header(u16::try_from(plain.len()).unwrap_or(u16::MAX))?;
        return out.bytes(plain);
    }
    if dynamic.size < fixed {
        dynamic.write_header(out)?;
        write_tokens(tokens, &dynamic.literals, &dynamic.distances, out)
    } else {
        out.add(1 << 1, 3)?;
        write_tokens(tokens, &FIXED_LITERALS, &FIXED_DISTANCES, out)
    }
}

fn write_tokens<W: Write>(
    tokens: &[Token],
    literals: &Code,
    distances: &Code,
    out: &mut BitWriter<W>,
) -> io::Result<()> {
    for token in tokens {
        match *token {
            Token::Literal(byte) => {
                let (bits, length) = literals.get(usize::from(byte));
                out.add(bits, length)?;
            }
            Token::Match { length, distance } => {
                write_symbol(out, literals, length_symbol(length))?;
                write_symbol(out, distances, distance_symbol(distance))?;
            }
        }
    }
    let (bits, length) = literals.get(END);
    out.add(bits, length)
}
