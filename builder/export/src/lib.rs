//! Makes something of results: layers, images, archives, directories, entries of shared caches; reads
//! and changes images.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod annotation;
mod assemble;
mod attach;
mod built;
mod created;
mod delta;
mod dependency;
mod erofs;
mod extract;
mod filesystem;
mod image_options;
mod index;
mod inline;
mod inspect;
mod inventory;
mod layer_blob;
mod layering;
mod load;
mod local;
mod media_types;
mod new_tag;
mod output;
mod output_entry;
mod push_stored;
mod rebase;
mod reproduce;
mod shared_cache;
mod stat;
mod stored_blob;
mod verity;

pub use annotation::Annotations;
pub use assemble::{Image, assemble};
pub use attach::{attach, attest};
pub use built::Built;
pub use delta::{Delta, DeltaMaker, DeltaReport, Level, Side};
pub use dependency::{contexts_used, dependencies, given, is_hermetic, needed_steps};
pub use erofs::write_erofs;
pub use extract::extract;
pub use filesystem::{SquashfsCodec, missing_program, write_cpio, write_ext4, write_squashfs};
pub use image_options::{ImageOptions, InlineCache};
pub use index::{IndexMerger, MergedIndex};
pub use inspect::{Difference, ImageReport, LayerReport, diff_images, find_image, inspect_image};
pub use inventory::{image_packages, packages};
pub use layer_blob::made_layer;
pub use layering::{LayerPlan, PathRule};
pub use load::{load, note_name, noted_image, stored_image, tagged_image};
pub use local::{left_out_warning, write_directory};
pub use output::{Shipper, files_of, with_prefix, write_root_tar};
pub use output_entry::OutputEntry;
pub use push_stored::push_stored;
pub use rebase::{Rebase, rebase};
pub use reproduce::{Unreproducible, compare};
pub use shared_cache::{BlobFile, CacheMode, CacheTarget, Exported, Exports, remote_tree};
