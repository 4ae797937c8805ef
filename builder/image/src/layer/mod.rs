//! Layers: tar streams to trees ([`unpack`]) and trees to tar streams ([`encode`]).

mod codec;
mod compress;
pub(crate) mod decompress;
mod encode;
mod estargz;
mod go_gzip;
mod header;
mod layer_blob;
mod pax_sparse;
mod recipe;
mod seekable;
mod single_files;
mod sniff;
mod tar_attributes;
mod tar_split;
mod toc;
mod unpack;
mod zstd_chunked;

pub use codec::{BadCodec, Codec};
pub use decompress::decompressed;
pub use encode::{ContentChanged, ContentSource, EncodeOptions, Encoded, write_tar};
pub use layer_blob::encode;
pub use recipe::{Recipe, Recompressed, UnknownRecipe};
pub use single_files::{Metadata, SingleFile, SingleFiles, SingleFilesError};
pub use sniff::is_tar;
pub use unpack::{UnpackOptions, Unpacked, unpack};
