//! Every access to a tree on disk.
//!
//! A step that still runs, or a descriptor that outlived its step, can exchange a directory for a
//! symbolic link at any moment. So no path inside a tree or volume is resolved by the host's path
//! walk: a [`TreeRoot`] is a directory descriptor, and everything is opened beneath it by
//! `openat2(2)` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`, or component
//! by component with `O_NOFOLLOW` where the kernel lacks that call. What has no call of its own
//! for descriptors (making, renaming and removing names) is given the parent directory's
//! descriptor and one name.
//!
//! Links inside an image are followed by [`kiln_graph::resolve`] alone, which reads them as text.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod attributes;
mod beneath;
mod compare;
mod copy;
mod error;
mod hash;
mod held;
pub mod host;
mod inode;
mod measure;
mod overlay;
mod read;
mod remove;
mod root;
pub mod upper;
mod walk;
mod write;
mod xattr;

pub use attributes::set_file_attributes;
pub use copy::{Copied, Progress, Sharing, copy_tree};
pub use error::TreeError;
pub use hash::hash_file;
pub use inode::{Inode, join_links};
pub use measure::{Measured, measure};
pub use overlay::OverlayXattrs;
pub use remove::remove_all;
pub use root::{TreePath, TreeRoot};
pub use walk::{Decision, Found, Visit, timestamp, walk};
pub use write::Linker;
pub use xattr::Xattrs;
