//! Everything that outlives a build: blobs, trees, step records, volumes, and their collection.
//!
//! A [`Store`] is one directory that any number of processes use at once. See its module for the
//! format and for what holds it together. What it keeps is in rooms, such as [`Store::trees`] and
//! [`Store::volumes`]; its own methods are about all of it: sessions, collection, checks, places for
//! what is being made.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod attribution;
mod blob;
mod build_record;
mod checked_text;
mod cost;
mod damage;
mod error;
mod fsck;
mod gc;
mod image_record;
mod in_use;
mod kind;
mod lock;
mod manifest_cache;
pub mod manifest_file;
mod marks;
mod memo;
mod mount_record;
mod open;
mod owner;
mod pending;
mod process_owner;
mod record;
pub mod scan;
mod session;
mod sha256;
mod staging;
mod store;
mod tree;
mod usage;
mod volume;
mod volume_away;

pub use attribution::{Attribution, Share};
pub use blob::{Blob, BlobWriter, Blobs};
pub use build_record::{BuildRecord, Builds, BuiltStep, BuiltTransfer, StepOutcome};
pub use cost::Cost;
pub use error::StoreError;
pub use fsck::{Damage, FsckReport};
pub use gc::{PruneOptions, PruneReport};
pub use image_record::{ImageRecord, Images};
pub use kiln_tree::OverlayXattrs;
pub use kind::Kind;
pub use lock::{Lock, Stop};
pub use memo::{LayerBlob, Layers, Memos};
pub use mount_record::{MountChanges, MountRecord, Mounts};
pub use record::{KeyInput, KeyParts, Record, Records};
pub use session::Session;
pub use sha256::sha256_of;
pub use staging::Staging;
pub use store::{Options, Store};
pub use tree::{Tree, Trees};
pub use usage::{Usage, UsageItem};
pub use volume::{Volume, VolumeInfo, VolumeSharing, Volumes};
