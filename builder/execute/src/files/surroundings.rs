//! What operations on files are carried out with.

use std::path::Path;
use std::sync::Arc;

use kiln_graph::Timestamp;
use kiln_tree::{OverlayXattrs, TreeRoot};

use crate::view::{Layer, View};

/// What an operation needs to know besides itself.
pub(crate) struct Surroundings<'a> {
    /// The tree that is changed.
    pub(crate) base: &'a View,
    /// The step's inputs by position.
    pub(crate) inputs: &'a [Arc<View>],
    /// The empty directory that becomes the change.
    pub(crate) directory: &'a TreeRoot,
    /// Where opaque directories are marked.
    pub(crate) xattrs: OverlayXattrs,
    /// Whether files can be given to their owners.
    pub(crate) give_away: bool,
    /// An earlier result of the same instruction, whose files may be shared.
    pub(crate) previous: Option<Layer>,
    /// The time that new things get.
    pub(crate) now: Timestamp,
    /// The store's directory: what lies in it doesn't change.
    pub(crate) store: &'a Path,
}
