//! gzip as programs in Go make it: the layers that Docker, BuildKit and containerd push. A deflate stream
//! (RFC 1951) may be written in countless ways; this one is that of Go's package `compress/gzip` at its
//! levels 4 to 9, so that a layer's very blob can be made again of its tar.
//!
//! What decides the bytes: matches are looked for one position ahead (`search`), 16,384 tokens are a
//! block (`block`), of whose three forms the shortest is taken, and Huffman codes are those of
//! package-merge with packages before leaves of the same weight (`code`). The stream ends with an empty
//! stored block.

mod bits;
mod block;
mod code;
mod search;

use std::io::{self, Write};

use flate2::Crc;

use bits::BitWriter;
use search::Search;

/// What `compress/gzip` writes without a name or a time, at all levels but the outermost.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The same at level 9, which says so (RFC 1952, XFL).
const BEST_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff];

/// A level that this encoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoLevel(u32);

impl GoLevel {
    /// A level, 4 to 9: others work in another way.
    pub(super) fn new(level: u32) -> Option<Self> {
        (4..=9).contains(&level).then_some(Self(level))
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    fn header(self) -> [u8; 10] {
        match self.0 {
            9 => BEST_HEADER,
            _ => HEADER,
        }
    }
}

/// Compresses what is written to it.
pub(super) struct GoGzip<W: Write> {
    search: Search,
    bits: BitWriter<W>,
    crc: Crc,
}

impl<W: Write> GoGzip<W> {
    pub(super) fn new(mut out: W, level: GoLevel) -> io::Result<Self> {
        out.write_all(&level.header())?;
        Ok(Self {
            search: Search::new(level),
            bits: BitWriter::new(out),
            crc: Crc::new(),
        })
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.search.finish(&mut self.bits)?;
        self.bits.stored_header(0)?;
        let mut out = self.bits.into_inner()?;
        out.write_all(&self.crc.sum().to_le_bytes())?;
        out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(out)
    }

    /// What has been written of the compressed stream so far goes to the writer, but for the last bits.
    pub(super) fn into_unfinished(self) -> W {
        self.bits.into_unfinished()
    }
}

impl<W: Write> Write for GoGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.crc.update(bytes);
        self.search.write(bytes, &mut self.bits)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::decompressed;
    use kiln_graph::BlobDigest;
    use std::io::Read as _;

    fn sample(kind: &str, size: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut noise = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let words = b"the quick brown fox jumps over the lazy dog ";
        let mut bytes: Vec<u8> = Vec::with_capacity(size);
        for at in 0..size {
            let byte = match (kind, at / 5000 % 3) {
                ("noise", _) | ("mixed", 0) => noise(),
                ("text", _) => words[(at + at / 97 * 7) % 44],
                ("letters", _) => b'a' + noise() % 16,
                ("mixed", 1) => bytes[at - 4000],
                ("mixed", _) => (at / 7 % 250) as u8,
                ("far", _) if at < 32768 => noise(),
                ("far", _) => bytes[at - 32768] ^ u8::from(at % 300 == 0),
                _ => 0,
            };
            bytes.push(byte);
        }
        bytes
    }

    fn packed(plain: &[u8], level: u32, pieces: usize) -> Vec<u8> {
        let mut gzip = GoGzip::new(Vec::new(), GoLevel::new(level).unwrap()).unwrap();
        for piece in plain.chunks(pieces) {
            gzip.write_all(piece).unwrap();
        }
        gzip.finish().unwrap()
    }

    /// The digests of what Go 1.26's `compress/gzip` writes for the same bytes.
    #[test]
    fn the_bytes_are_those_of_go() {
        let known = include_str!("known.txt");
        let mut seen = 0;
        for line in known.lines() {
            let (name, want) = line.split_once(' ').unwrap();
            let [kind, size, level] = name.split('-').collect::<Vec<_>>()[..] else {
                panic!("{name}");
            };
            let plain = sample(kind, size.parse().unwrap());
            let bytes = packed(&plain, level.parse().unwrap(), 77_777);
            assert_eq!(BlobDigest::of(&bytes).hex(), want, "{name}");
            seen += 1;
        }
        assert_eq!(seen, 54);
    }

    #[test]
    fn what_is_packed_is_unpacked_however_it_came() {
        for kind in ["mixed", "far", "letters"] {
            let plain = sample(kind, 200_001);
            let bytes = packed(&plain, 6, plain.len());
            assert!(packed(&plain, 6, 1000) == bytes, "{kind}");
            let mut again = Vec::new();
            decompressed(&bytes[..])
                .unwrap()
                .read_to_end(&mut again)
                .unwrap();
            assert!(again == plain, "{kind}");
        }
    }

    #[test]
    fn other_levels_work_in_another_way() {
        for level in [0, 1, 2, 3, 10] {
            assert_eq!(GoLevel::new(level), None);
        }
    }
}
