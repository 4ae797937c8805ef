//! Layers: tar streams to trees ([`unpack`]) and trees to tar streams ([`encode`]).

mod codec;
mod compress;
mod decompress;
mod encode;
mod header;
mod sniff;
mod unpack;

pub use codec::{BadCodec, Codec};
pub use decompress::decompressed;
pub use encode::{ContentChanged, ContentSource, EncodeOptions, Encoded, encode, write_tar};
pub use sniff::is_tar;
pub use unpack::{UnpackOptions, Unpacked, unpack};
