//! How a layer's tar is compressed to one certain blob, as the annotation `dev.kiln.encoder` says it:
//!
//! `CODEC:LEVEL blocks=BYTES bytes=VERSION tar=BYTES`, for example
//! `gzip:6 blocks=1048576 bytes=1 tar=73216`. The encoder cuts the tar into blocks of that size (see
//! `compress`); the version is that of the encoder's bytes, and `tar` is the length of the tar.
//! `go-gzip:LEVEL bytes=VERSION tar=BYTES` is one stream as Go's `compress/gzip` makes it (see `go_gzip`).
//! Whoever has another encoder can't follow it, and fetches the blob.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use kiln_graph::BlobDigest;

use super::codec::BYTES_VERSION;
use super::compress::{block_size, compress, compress_first};
use super::decompress::{GZIP_MAGIC, ZSTD_MAGIC};
use super::encode::Counting;
use super::go_gzip::{GoGzip, GoLevel};
use super::{Codec, decompressed};

/// The name of Go's encoder.
const GO: &str = "go-gzip";
/// The version of its bytes: Go 1.19 (in Docker 20.10) and Go 1.26 write the same.
const GO_BYTES_VERSION: u32 = 1;
/// A blob is compared with what an encoder makes of so many of its first bytes, before all of it is.
const FIRST: u64 = 1 << 20;

/// How the tar of a layer is compressed to its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    encoder: Encoder,
    /// The length of the tar in bytes.
    tar: u64,
}

/// What compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// Ours. Never a seekable codec: those are cut where files begin.
    Kiln(Codec),
    /// Go's gzip.
    Go(GoLevel),
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
        let encoder = Encoder::Kiln(codec);
        (!codec.is_seekable()).then_some(Self { encoder, tar })
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
        let diff_id = match self.encoder {
            Encoder::Kiln(codec) => {
                let made = compress(codec, &mut blob, |stream| {
                    let mut plain = Counting::new(stream);
                    produce(&mut plain)?;
                    Ok(plain.finish().0)
                });
                made?.0
            }
            Encoder::Go(level) => {
                let mut plain = Counting::new(GoGzip::new(&mut blob, level)?);
                produce(&mut plain)?;
                let (gzip, digest) = plain.into_parts();
                gzip.finish()?.flush()?;
                digest
            }
        };
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
        for encoder in candidates(open)? {
            let recipe = Self { encoder, tar: 0 };
            let mut tar = 0;
            let made = recipe.compress(io::sink(), |out| {
                tar = io::copy(&mut decompressed(open()?)?, out)?;
                Ok(())
            })?;
            if made.blob == *digest {
                return Ok(Some(Self { encoder, tar }));
            }
        }
        Ok(None)
    }
}

/// The encoders that make the blob's beginning. Levels that are much used come first.
fn candidates<R: Read + Send>(open: &dyn Fn() -> io::Result<R>) -> io::Result<Vec<Encoder>> {
    let mut head = [0; 4];
    let count = open()?.take(4).read(&mut head)?;
    let (is_gzip, is_zstd) = {
        let head = &head[..count];
        (head.starts_with(&GZIP_MAGIC), head.starts_with(&ZSTD_MAGIC))
    };
    let codecs: Vec<Codec> = match (is_gzip, is_zstd) {
        (true, _) => [6, 1, 9, 2, 3, 4, 5, 7, 8, 0].map(Codec::Gzip).into(),
        (_, true) => std::iter::once(3)
            .chain((1..=22).filter(|level| *level != 3))
            .map(Codec::Zstd)
            .collect(),
        _ => return Ok(vec![Encoder::Kiln(Codec::Uncompressed)]),
    };
    let sizes = codecs.iter().map(|codec| block_size(*codec) as u64);
    let mut plain = Vec::new();
    decompressed(open()?)?
        .take(sizes.max().unwrap_or(0).max(FIRST))
        .read_to_end(&mut plain)?;
    let begins_with = |first: &[u8]| -> io::Result<(bool, Vec<u8>)> {
        let mut own = Vec::new();
        open()?.take(first.len() as u64).read_to_end(&mut own)?;
        Ok((own == first, own))
    };
    let mut found = Vec::new();
    for codec in codecs {
        let first = compress_first(codec, &plain);
        match begins_with(&first)? {
            (true, _) => found.push(Encoder::Kiln(codec)),
            (false, own) if !begins_alike(codec, &own, &first) => break,
            (false, _) => {}
        }
    }
    if is_gzip {
        for level in [6, 9, 5, 4, 7, 8].into_iter().filter_map(GoLevel::new) {
            if begins_with(&go_first(level, &plain)?)?.0 {
                found.push(Encoder::Go(level));
            }
        }
    }
    Ok(found)
}

/// What Go's stream for bytes that begin with these begins with.
fn go_first(level: GoLevel, plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GoGzip::new(Vec::new(), level)?;
    gzip.write_all(plain)?;
    Ok(gzip.into_unfinished())
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
        match self.encoder {
            Encoder::Kiln(codec) => {
                let blocks = block_size(codec);
                write!(f, "{codec} blocks={blocks} bytes={BYTES_VERSION}")?;
            }
            Encoder::Go(level) => {
                write!(f, "{GO}:{} bytes={GO_BYTES_VERSION}", level.number())?;
            }
        }
        write!(f, " tar={}", self.tar)
    }
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(text: &str) -> Result<Self, UnknownRecipe> {
        let (name, rest) = text.split_once(' ').ok_or(UnknownRecipe)?;
        let tar = rest.rsplit_once("tar=").map(|(_, tar)| tar.parse());
        let tar = tar.and_then(Result::ok).ok_or(UnknownRecipe)?;
        let encoder = encoder(name).ok_or(UnknownRecipe)?;
        let recipe = Self { encoder, tar };
        // Other blocks or another version give other bytes.
        match recipe.to_string() == text {
            true => Ok(recipe),
            false => Err(UnknownRecipe),
        }
    }
}

/// An encoder by its name and level.
fn encoder(text: &str) -> Option<Encoder> {
    let (name, level) = match text.rsplit_once(':') {
        Some((name, level)) => (name, Some(level.parse::<u32>().ok()?)),
        None => (text, None),
    };
    if name == GO {
        return Some(Encoder::Go(GoLevel::new(level?)?));
    }
    let level = level.map(i32::try_from).transpose().ok()?;
    let codec = Codec::new(name, level).ok()?;
    (!codec.is_seekable()).then_some(Encoder::Kiln(codec))
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
    fn the_recipe_of_gos_blobs_is_found() {
        for (level, size) in [(6, 1_500_000), (9, 400_000), (6, 100), (5, 1)] {
            let tar = sample(size);
            let mut gzip = GoGzip::new(Vec::new(), GoLevel::new(level).unwrap()).unwrap();
            gzip.write_all(&tar).unwrap();
            let bytes = gzip.finish().unwrap();
            let digest = BlobDigest::of(&bytes);
            let found = Recipe::of_blob(&digest, &|| Ok(&bytes[..])).unwrap();
            let found = found.unwrap();
            let remade = found.compress(io::sink(), |out| out.write_all(&tar));
            let remade = remade.unwrap();
            assert_eq!(
                (remade.blob, remade.diff_id),
                (digest, BlobDigest::of(&tar))
            );
            assert!(found.to_string().starts_with("go-gzip:"), "{found}");
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
        let go = "go-gzip:6 bytes=1 tar=7";
        assert_eq!(go.parse::<Recipe>().unwrap().to_string(), go);
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
            "go-gzip:1 bytes=1 tar=7",
            "go-gzip bytes=1 tar=7",
            "go-gzip:6 bytes=2 tar=7",
            "go-gzip:6 blocks=1048576 bytes=1 tar=7",
        ] {
            assert_eq!(other.parse::<Recipe>(), Err(UnknownRecipe), "{other}");
        }
    }
}
