//! Bits, the lowest of each byte first (RFC 1951, 3.1.1).

use std::io::{self, Write};

/// Bytes that are kept back before they are written.
const BUFFER: usize = 64 << 10;

pub(super) struct BitWriter<W> {
    out: W,
    buffer: Vec<u8>,
    bits: u64,
    count: u32,
}

impl<W: Write> BitWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(BUFFER),
            bits: 0,
            count: 0,
        }
    }

    /// Adds the lowest `count` bits, 16 at the most.
    pub(super) fn add(&mut self, bits: u32, count: u32) -> io::Result<()> {
        self.bits |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.buffer.push(self.bits.to_le_bytes()[0]);
            self.bits >>= 8;
            self.count -= 8;
        }
        if self.buffer.len() >= BUFFER {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Begins a stored block (RFC 1951, 3.2.4) of `length` bytes that isn't the last one, or the empty last one.
    pub(super) fn stored_header(&mut self, length: u16) -> io::Result<()> {
        self.add(u32::from(length == 0), 3)?;
        self.align()?;
        self.add(u32::from(length), 16)?;
        self.add(u32::from(!length), 16)
    }

    /// Adds whole bytes, at a byte's beginning.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        match self.count {
            0 => Ok(()),
            count => self.add(0, 8 - count),
        }
    }

    pub(super) fn into_inner(mut self) -> io::Result<W> {
        self.align()?;
        self.out.write_all(&self.buffer)?;
        Ok(self.out)
    }

    pub(super) fn into_unfinished(mut self) -> W {
        // Whoever wants an unfinished stream keeps it in memory.
        _ = self.out.write_all(&self.buffer);
        self.out
    }
}
