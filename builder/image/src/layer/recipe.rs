//! How a layer's tar is compressed to one certain blob, as the annotation `dev.kiln.encoder` says it:
//!
//! `CODEC:LEVEL blocks=BYTES bytes=VERSION tar=BYTES`, for example
//! `gzip:6 blocks=1048576 bytes=1 tar=73216`. The encoder cuts the tar into blocks of that size (see
//! `compress`); the version is that of the encoder's bytes, and `tar` is the length of the tar.
//! Whoever has another encoder can't follow it, and fetches the blob.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use kiln_graph::BlobDigest;

use super::codec::BYTES_VERSION;
use super::compress::{block_size, compress, compress_first};
use super::encode::Counting;
use super::{Codec, decompressed};

/// How the tar of a layer is compressed to its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The compression. Never one that is seekable: those are cut where files begin.
    codec: Codec,
    /// The length of the tar in bytes.
    tar: u64,
}

/// A recipe for another encoder, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this version of kiln doesn't have the encoder of the layer")]
pub struct UnknownRecipe;

/// A blob that was made of a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recompressed {
    /// The blob's digest.
    pub blob: BlobDigest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The digest of the tar.
    pub diff_id: BlobDigest,
}

impl Recipe {
    /// A recipe, unless the codec is one whose blobs aren't made of the tar alone.
    #[must_use]
    pub fn new(codec: Codec, tar: u64) -> Option<Self> {
        (!codec.is_seekable()).then_some(Self { codec, tar })
    }

    /// The length of the tar in bytes.
    #[must_use]
    pub fn tar(&self) -> u64 {
        self.tar
    }

    /// Compresses what `produce` writes.
    ///
    /// # Errors
    /// What `produce` says, and when `out` can't be written.
    pub fn compress(
        &self,
        out: impl Write + Send,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Recompressed> {
        let mut blob = Counting::new(out);
        let (diff_id, _) = compress(self.codec, &mut blob, |stream| {
            let mut plain = Counting::new(stream);
            produce(&mut plain)?;
            Ok(plain.finish().0)
        })?;
        let (blob, size) = blob.finish();
        Ok(Recompressed {
            blob,
            size,
            diff_id,
        })
    }

    /// The recipe of a blob that an encoder of this version made, found by making it again. `open`
    /// gives the blob from its start. Nothing for blobs of others.
    ///
    /// # Errors
    /// When the blob can't be read or decompressed.
    pub fn of_blob<R: Read + Send>(
        digest: &BlobDigest,
        open: &dyn Fn() -> io::Result<R>,
    ) -> io::Result<Option<Self>> {
        for codec in candidates(open)? {
            let recipe = Self { codec, tar: 0 };
            let mut tar = 0;
            let made = recipe.compress(io::sink(), |out| {
                tar = io::copy(&mut decompressed(open()?)?, out)?;
                Ok(())
            })?;
            if made.blob == *digest {
                return Ok(Some(Self { codec, tar }));
            }
        }
        Ok(None)
    }
}

/// The codecs whose first block is the blob's. Levels that are much used come first.
fn candidates<R: Read + Send>(open: &dyn Fn() -> io::Result<R>) -> io::Result<Vec<Codec>> {
    let mut head = [0; 4];
    let count = open()?.take(4).read(&mut head)?;
    let codecs: Vec<Codec> = match &head[..count] {
        [0x1f, 0x8b, ..] => [6, 1, 9, 2, 3, 4, 5, 7, 8, 0].map(Codec::Gzip).into(),
        [0x28, 0xb5, 0x2f, 0xfd] => std::iter::once(3)
            .chain((1..=22).filter(|level| *level != 3))
            .map(Codec::Zstd)
            .collect(),
        _ => return Ok(vec![Codec::Uncompressed]),
    };
    let mut plain = Vec::new();
    let size = codecs
        .iter()
        .map(|codec| block_size(*codec))
        .max()
        .unwrap_or(0);
    decompressed(open()?)?
        .take(size as u64)
        .read_to_end(&mut plain)?;
    let mut found = Vec::new();
    for codec in codecs {
        let mut own = Vec::new();
        let first = compress_first(codec, &plain);
        open()?.take(first.len() as u64).read_to_end(&mut own)?;
        if own == first {
            found.push(codec);
        } else if !begins_alike(codec, &own, &first) {
            break;
        }
    }
    Ok(found)
}

/// Whether a blob may still be ours at another level.
fn begins_alike(codec: Codec, own: &[u8], first: &[u8]) -> bool {
    match codec {
        Codec::Gzip(_) => own.get(..10) == first.get(..10),
        // Our frames say their length: RFC 8878, Frame_Header_Descriptor.
        _ => own.get(4).is_some_and(|descriptor| descriptor & 0xe0 != 0),
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, tar } = self;
        let blocks = block_size(*codec);
        write!(f, "{codec} blocks={blocks} bytes={BYTES_VERSION} tar={tar}")
    }
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(text: &str) -> Result<Self, UnknownRecipe> {
        let (codec, rest) = text.split_once(' ').ok_or(UnknownRecipe)?;
        let (name, level) = match codec.split_once(':') {
            Some((name, level)) => (name, Some(level.parse().map_err(|_| UnknownRecipe)?)),
            None => (codec, None),
        };
        let codec = Codec::new(name, level).map_err(|_| UnknownRecipe)?;
        let tar = rest.rsplit_once("tar=").map(|(_, tar)| tar.parse());
        let tar = tar.and_then(Result::ok).ok_or(UnknownRecipe)?;
        let recipe = Self::new(codec, tar).ok_or(UnknownRecipe)?;
        // Other blocks or another version give other bytes.
        match recipe.to_string() == text {
            true => Ok(recipe),
            false => Err(UnknownRecipe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * at / 977 % 251) as u8).collect()
    }

    fn blob(codec: Codec, tar: &[u8]) -> (Vec<u8>, Recompressed) {
        let mut out = Vec::new();
        let recipe = Recipe::new(codec, tar.len() as u64).unwrap();
        let made = recipe
            .compress(&mut out, |stream| stream.write_all(tar))
            .unwrap();
        (out, made)
    }

    #[test]
    fn the_recipe_of_our_blobs_is_found() {
        for codec in [
            Codec::Gzip(6),
            Codec::Gzip(1),
            Codec::Gzip(9),
            Codec::Zstd(3),
            Codec::Zstd(7),
            Codec::Uncompressed,
        ] {
            for size in [1, 2000, 1_200_000] {
                let tar = sample(size);
                let (bytes, made) = blob(codec, &tar);
                let found = Recipe::of_blob(&made.blob, &|| Ok(&bytes[..]))
                    .unwrap()
                    .unwrap();
                assert_eq!(found.tar(), size as u64);
                let mut again = Vec::new();
                let remade = found
                    .compress(&mut again, |out| out.write_all(&tar))
                    .unwrap();
                assert!(again == bytes, "{codec} {size}");
                assert_eq!(remade, made);
            }
        }
    }

    #[test]
    fn blobs_of_others_have_none() {
        let tar = sample(1_100_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&tar).unwrap();
        let zstd = zstd::stream::encode_all(&tar[..], 3).unwrap();
        for bytes in [gzip.finish().unwrap(), zstd] {
            let digest = BlobDigest::of(&bytes);
            assert_eq!(Recipe::of_blob(&digest, &|| Ok(&bytes[..])).unwrap(), None);
        }
    }

    #[test]
    fn recipes_survive_and_others_are_refused() {
        for codec in [Codec::Gzip(6), Codec::Zstd(19), Codec::Uncompressed] {
            let recipe = Recipe::new(codec, 7).unwrap();
            assert_eq!(recipe.to_string().parse(), Ok(recipe));
        }
        assert_eq!(Recipe::new(Codec::ZstdChunked(3), 7), None);
        for other in [
            "",
            "gzip:6",
            "gzip:6 blocks=1048576 bytes=1",
            "gzip:6 blocks=1048576 bytes=99 tar=7",
            "gzip:6 blocks=4096 bytes=1 tar=7",
            "gzip:60 blocks=1048576 bytes=1 tar=7",
            "zstd:chunked:3 blocks=4194304 bytes=1 tar=7",
            "gzip:6 blocks=1048576 bytes=1 tar=-7",
            "gzip:6 blocks=1048576 bytes=1 tar=7 more",
        ] {
            assert_eq!(other.parse::<Recipe>(), Err(UnknownRecipe), "{other}");
        }
    }
}
