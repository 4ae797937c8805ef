//! The canonical encoding that digests are taken of.
//!
//! Version 1. A stream of fields without padding: integers little-endian at their full width;
//! texts and bytes as a `u64` length and the bytes; sequences as a `u64` count and the items;
//! options and enums as a one-byte tag and the content. A stream starts with a domain name and
//! that domain's version, so that digests of different things or versions never meet. Nothing
//! that depends on the order of a hash map, on the host or on the time of day may be written.

use crate::{BlobDigest, Digest, ImagePath};

/// Writes one canonical encoding into a blake3 state.
#[derive(Debug)]
pub struct Encoder {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

/// Fields are gathered up to this size before they are hashed: blake3 is slow on small pieces.
const FLUSH_AT: usize = 16 * 1024;

impl Encoder {
    /// Starts an encoding of something of `domain` in its `version`.
    #[must_use]
    pub fn new(domain: &str, version: u32) -> Self {
        let mut out = Self {
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(256),
        };
        out.str(domain).u32(version);
        out
    }

    /// The digest of everything written.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        self.hasher.update(&self.buffer);
        self.hasher.finalize().into()
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= FLUSH_AT {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        self
    }

    /// An enum's variant or an option's presence.
    pub fn tag(&mut self, tag: u8) -> &mut Self {
        self.raw(&[tag])
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.tag(value.into())
    }

    /// A 32-bit number.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A 64-bit number.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A signed 64-bit number.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Bytes, with their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u64(value.len() as u64).raw(value)
    }

    /// A text, with its length in bytes.
    pub fn str(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A digest, its 32 bytes.
    pub fn digest(&mut self, value: &Digest) -> &mut Self {
        self.raw(value.as_bytes())
    }

    /// A blob's digest, its 32 bytes.
    pub fn blob(&mut self, value: &BlobDigest) -> &mut Self {
        self.raw(value.as_bytes())
    }

    /// A path inside an image.
    pub fn path(&mut self, value: &ImagePath) -> &mut Self {
        self.bytes(value.relative_bytes())
    }

    /// A value that may be missing.
    pub fn option<T>(&mut self, value: Option<T>, some: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            some(self, value);
        }
        self
    }

    /// A sequence, with its length; it must come in an order that its content decides.
    pub fn seq<I>(&mut self, items: I, mut each: impl FnMut(&mut Self, I::Item)) -> &mut Self
    where
        I: IntoIterator<IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        self.u64(items.len() as u64);
        for item in items {
            each(self, item);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut out = Encoder::new("test", 1);
            out.seq(parts, |out, part| {
                out.str(part);
            });
            out.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_ne!(
            Encoder::new("test", 1).finish(),
            Encoder::new("test", 2).finish()
        );
    }

    #[test]
    fn long_streams_hash_like_one_piece() {
        let mut out = Encoder::new("test", 1);
        let mut plain = Vec::new();
        plain.extend_from_slice(&4u64.to_le_bytes());
        plain.extend_from_slice(b"test\x01\0\0\0");
        for n in 0..10_000u64 {
            out.u64(n);
            plain.extend_from_slice(&n.to_le_bytes());
        }
        assert_eq!(out.finish(), Digest::of(&plain));
    }
}
