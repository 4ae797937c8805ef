//! The tar-diff format, media type `application/vnd.tar-diff`, versions 1 and 2
//! (`file-format.md` of containers/tar-diff).
//!
//! Eight bytes of magic, then one zstd stream of operations. Each is one byte that names it, a
//! number as a base-128 varint (least significant group first), and for some as many bytes:
//!
//! | byte | operation | number | bytes follow | effect |
//! |---|---|---|---|---|
//! | 0 | data | length | yes | the bytes are output |
//! | 1 | open | length | yes | the bytes are the path of a regular file of the old image, which is read from its start |
//! | 2 | copy | length | no | so many bytes of the open file are output |
//! | 3 | add | length | yes | so many bytes of the open file are output, each plus one of these, modulo 256 |
//! | 4 | seek | position | no | the open file is read from there on |
//! | 5 | frame | length | yes | the bytes are one zstd frame, decompressed with the whole open file as prefix (version 2) |
//!
//! Paths are relative to the root of the old image as its layers show it, UTF-8, without `.` and
//! `..`. Only contents of regular files are referenced; all headers of the tar are data.

/// The media type of a tar-diff.
pub const TAR_DIFF: &str = "application/vnd.tar-diff";

/// The magic of version 1, which has no frames.
pub(crate) const MAGIC_1: [u8; 8] = *b"tardf1\n\0";
/// The magic of version 2.
pub(crate) const MAGIC_2: [u8; 8] = *b"tardf2\n\0";

/// The longest path, in bytes.
pub const MAX_PATH: u64 = 4 << 10;
/// The longest operation "add", in bytes.
pub const MAX_ADD: u64 = 100 << 20;
/// The largest window of a frame, as a power of two, and the largest file that is a prefix.
pub const MAX_WINDOW_LOG: u32 = 29;

/// How many bytes of prefixes may be read for a tar of some length: each frame reads a whole file.
pub(crate) fn max_prefixes(tar: u64) -> u64 {
    tar.saturating_mul(16).saturating_add(1 << 30)
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Data = 0,
    Open = 1,
    Copy = 2,
    Add = 3,
    Seek = 4,
    Frame = 5,
}

impl Op {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Data,
            1 => Self::Open,
            2 => Self::Copy,
            3 => Self::Add,
            4 => Self::Seek,
            5 => Self::Frame,
            _ => return None,
        })
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Adds a varint's next byte to what was read of it: the sum, and whether it was the last byte.
/// `None` when it doesn't fit 64 bits.
pub(crate) fn add_to_varint(number: u64, at: u32, byte: u8) -> Option<(u64, bool)> {
    let bits = u64::from(byte & 0x7f);
    let shift = at * 7;
    if shift >= 64 || (shift > 0 && bits > u64::MAX >> shift) {
        return None;
    }
    Some((number | bits << shift, byte & 0x80 == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let (sum, last) = add_to_varint(number, u32::try_from(at).unwrap(), *byte)?;
            number = sum;
            if last {
                return Some(number);
            }
        }
        None
    }

    proptest! {
        #[test]
        fn varints_survive(number: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(read(&bytes), Some(number));
        }
    }

    #[test]
    fn varints_that_overflow_are_refused() {
        assert_eq!(read(&[0xff; 9]), None);
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(read(&largest), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(read(&largest), None);
        assert_eq!(read(&[0x80; 11]), None);
    }
}
