//! How a layer's tar is compressed.

use std::fmt;

/// Bumped by hand whenever the compressors' versions or the block sizes change: the same tree
/// and codec must give the same bytes.
pub(crate) const BYTES_VERSION: u32 = 1;

/// A compression with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 22.
    Zstd(i32),
    /// gzip, each file by itself, with a table of contents that says where (see `estargz`).
    EStargz(u32),
    /// zstd, each file by itself, with a table of contents that says where (see `zstd_chunked`).
    ZstdChunked(i32),
    /// None.
    Uncompressed,
}

/// A compression that isn't known, or a level it doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCodec {
    /// The name is unknown.
    #[error("unknown compression '{0}': use gzip, zstd, estargz, zstd:chunked or uncompressed")]
    Name(String),
    /// The level is out of range.
    #[error("compression {name} has no level {level}: use {from} to {to}")]
    Level {
        /// The compression.
        name: &'static str,
        /// The level asked for.
        level: i32,
        /// The lowest level.
        from: i32,
        /// The highest level.
        to: i32,
    },
}

impl Default for Codec {
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Codec {
    /// A codec by name (`gzip`, `zstd`, `estargz`, `zstd:chunked`, `uncompressed`) and level.
    ///
    /// # Errors
    /// When there is no such codec or level.
    pub fn new(name: &str, level: Option<i32>) -> Result<Self, BadCodec> {
        let check = |name, default: i32, from, to| {
            let level = level.unwrap_or(default);
            let known = (from..=to).contains(&level);
            if known {
                Ok(level)
            } else {
                Err(BadCodec::Level {
                    name,
                    level,
                    from,
                    to,
                })
            }
        };
        Ok(match name {
            "gzip" => Self::Gzip(check("gzip", 6, 0, 9)?.unsigned_abs()),
            "zstd" => Self::Zstd(check("zstd", 3, 1, 22)?),
            "estargz" => Self::EStargz(check("estargz", 6, 0, 9)?.unsigned_abs()),
            "zstd:chunked" | "zstdchunked" => Self::ZstdChunked(check("zstd:chunked", 3, 1, 22)?),
            "uncompressed" => Self::Uncompressed,
            other => return Err(BadCodec::Name(other.to_owned())),
        })
    }

    /// The OCI media type of a layer.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip(_) | Self::EStargz(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) | Self::ZstdChunked(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// Whether single files can be fetched out of a layer.
    #[must_use]
    pub fn is_seekable(self) -> bool {
        matches!(self, Self::EStargz(_) | Self::ZstdChunked(_))
    }

    /// All that decides the bytes of a blob besides the tree.
    #[must_use]
    pub fn cache_key(self) -> String {
        format!("{self} bytes-{BYTES_VERSION}")
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::EStargz(level) => write!(f, "estargz:{level}"),
            Self::ZstdChunked(level) => write!(f, "zstd:chunked:{level}"),
            Self::Uncompressed => f.write_str("uncompressed"),
        }
    }
}
