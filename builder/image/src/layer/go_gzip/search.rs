//! Looks for matches: the positions of equal four bytes are chained, the chain is followed so far, and a
//! match is taken when the next position has no longer one.
//!
//! The window has 64 KiB and moves by 32 KiB when fewer bytes are left in it than a longest match and four
//! need. Nothing before it is found, so the farthest distance shrinks for a while after it has moved.

use std::io::{self, Write};

use super::GoLevel;
use super::bits::BitWriter;
use super::block::{self, Token};

const WINDOW: usize = 32 << 10;
const MASK: usize = WINDOW - 1;
const MIN_MATCH: usize = 4;
const MAX_MATCH: usize = 258;
/// A match of four bytes isn't worth a longer distance.
const MAX_NEAR: usize = 4096;
const MAX_TOKENS: usize = 1 << 14;
const HASH_BITS: u32 = 17;

/// How much is tried.
#[derive(Clone, Copy)]
struct Effort {
    /// A match of this length is taken at once.
    lazy: usize,
    /// One of this length ends the search.
    nice: usize,
    /// How many positions are looked at.
    chain: usize,
}

impl Effort {
    fn of(level: GoLevel) -> Self {
        let (lazy, nice, chain) = match level.number() {
            4 => (4, 16, 16),
            5 => (16, 32, 32),
            7 => (32, 128, 256),
            8 => (128, 258, 1024),
            9 => (258, 258, 4096),
            _ => (16, 128, 128),
        };
        Self { lazy, nice, chain }
    }
}

#[derive(Clone, Copy)]
struct Match {
    length: usize,
    distance: usize,
}

/// Shorter than any match.
const NONE: Match = Match {
    length: MIN_MATCH - 1,
    distance: 0,
};

pub(super) struct Search {
    effort: Effort,
    window: Vec<u8>,
    /// Where the window begins in the whole. All positions are in the whole, and kept as one more: 0 is none.
    base: usize,
    at: usize,
    heads: Vec<usize>,
    /// By position within the window's half: the position before with the same four bytes.
    chain: Vec<usize>,
    /// The first of the bytes with the same four as those at `at`.
    head: usize,
    /// What was found at the last position.
    found: Match,
    /// Whether the byte before is no token yet.
    waits: bool,
    tokens: Vec<Token>,
    /// Where the block begins.
    block: usize,
}

impl Search {
    pub(super) fn new(level: GoLevel) -> Self {
        Self {
            effort: Effort::of(level),
            window: Vec::with_capacity(2 * WINDOW),
            base: 0,
            at: 0,
            heads: vec![0; 1 << HASH_BITS],
            chain: vec![0; WINDOW],
            head: 0,
            found: NONE,
            waits: false,
            tokens: Vec::with_capacity(MAX_TOKENS),
            block: 0,
        }
    }

    pub(super) fn write<W: Write>(
        &mut self,
        mut bytes: &[u8],
        out: &mut BitWriter<W>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            self.move_window();
            let count = bytes.len().min(2 * WINDOW - self.window.len());
            self.window.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            while self.left() >= MIN_MATCH + MAX_MATCH {
                self.step(out)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish<W: Write>(&mut self, out: &mut BitWriter<W>) -> io::Result<()> {
        while self.left() > 0 {
            self.step(out)?;
        }
        if std::mem::take(&mut self.waits) {
            self.take_byte();
        }
        match self.tokens.is_empty() {
            true => Ok(()),
            false => self.end_block(self.at, out),
        }
    }

    /// How many bytes are left to look at.
    fn left(&self) -> usize {
        self.base + self.window.len() - self.at
    }

    fn move_window(&mut self) {
        if self.at - self.base >= 2 * WINDOW - (MIN_MATCH + MAX_MATCH) {
            self.window.drain(..WINDOW);
            self.base += WINDOW;
        }
    }

    /// Looks at one position, or goes over a match.
    fn step<W: Write>(&mut self, out: &mut BitWriter<W>) -> io::Result<()> {
        let left = self.left();
        if left >= MIN_MATCH {
            self.head = self.chained(self.at);
        }
        let before = std::mem::replace(&mut self.found, NONE);
        if left > before.length && before.length < self.effort.lazy {
            self.found = self.longest(left).unwrap_or(NONE);
        }
        let end = if before.length >= MIN_MATCH && self.found.length <= before.length {
            self.take(before);
            self.at
        } else {
            if std::mem::replace(&mut self.waits, true) {
                self.take_byte();
            }
            self.at += 1;
            self.at - 1
        };
        match self.tokens.len() {
            MAX_TOKENS => self.end_block(end, out),
            _ => Ok(()),
        }
    }

    /// Takes the byte before as it is.
    fn take_byte(&mut self) {
        let byte = self.window[self.at - self.base - 1];
        self.tokens.push(Token::Literal(byte));
    }

    /// Takes the match that begins at the byte before.
    fn take(&mut self, found: Match) {
        self.tokens.push(Token::Match {
            length: u16::try_from(found.length).unwrap_or(u16::MAX),
            distance: u16::try_from(found.distance).unwrap_or(u16::MAX),
        });
        let end = self.at + found.length - 1;
        let known = self.base + self.window.len();
        for at in self.at + 1..end {
            if at + MIN_MATCH <= known {
                self.head = self.chained(at);
            }
        }
        self.at = end;
        self.waits = false;
        self.found = NONE;
    }

    /// Notes the four bytes at a position; the position before with the same.
    fn chained(&mut self, at: usize) -> usize {
        let from = at - self.base;
        let mut four = [0; MIN_MATCH];
        four.copy_from_slice(&self.window[from..from + MIN_MATCH]);
        let hash = u32::from_be_bytes(four).wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS);
        let head = std::mem::replace(&mut self.heads[hash as usize], at + 1);
        self.chain[at & MASK] = head;
        head
    }

    /// The longest match at the position, of those that are looked at.
    fn longest(&self, left: usize) -> Option<Match> {
        let first = self.at.saturating_sub(WINDOW).max(self.base);
        let longest = left.min(MAX_MATCH);
        let nice = longest.min(self.effort.nice);
        let here = &self.window[self.at - self.base..][..longest];
        let mut found = None;
        let mut length = MIN_MATCH - 1;
        let mut next = self.head;
        for _ in 0..self.effort.chain {
            let Some(place) = next.checked_sub(1).filter(|place| *place >= first) else {
                break;
            };
            let there = &self.window[place - self.base..];
            if there[length] == here[length] {
                let own = equal(there, here);
                let distance = self.at - place;
                if own > length && (own > MIN_MATCH || distance <= MAX_NEAR) {
                    length = own;
                    found = Some(Match { length, distance });
                    if own >= nice {
                        break;
                    }
                }
            }
            if place == first {
                break;
            }
            next = self.chain[place & MASK];
        }
        found
    }

    fn end_block<W: Write>(&mut self, end: usize, out: &mut BitWriter<W>) -> io::Result<()> {
        let start = self.block.checked_sub(self.base);
        let plain = start.map(|start| &self.window[start..end - self.base]);
        block::write(&self.tokens, plain, out)?;
        self.tokens.clear();
        self.block = end;
        Ok(())
    }
}

/// How many bytes are equal.
fn equal(there: &[u8], here: &[u8]) -> usize {
    let same = there.iter().zip(here);
    same.take_while(|(one, other)| one == other).count()
}
