//! Differences between images.
//!
//! A layer's difference is a tar-diff stream ([`mod@format`]): the tar of the new layer, in which file
//! contents are taken from the old image or encoded relative to its files. [`diff`] writes one,
//! [`apply`] rebuilds the tar. An [`artifact`] carries the differences of all layers of one image
//! in a registry or an archive.
//!
//! Nothing here knows a store or a network: old files are opened through [`OldFiles`].

mod apply;
pub mod artifact;
mod blocks;
mod catalog;
mod diff;
mod error;
pub mod format;
mod frame;
mod old;
mod parts;
mod writer;

pub use apply::{Limits, apply};
pub use catalog::{Catalog, OldEntry};
pub use diff::{Level, Saved, diff};
pub use error::DeltaError;
pub use old::{OldFile, OldFiles, ReadSeek};
