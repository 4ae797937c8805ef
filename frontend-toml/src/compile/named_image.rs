//! Images that a file names.

use std::collections::BTreeSet;

use kiln_graph::Location;

use super::Signers;

/// An image that the file names.
pub(super) struct NamedImage {
    pub(super) location: Option<Location>,
    /// What its sources want; nothing when they say nothing.
    pub(super) signers: BTreeSet<Signers>,
}
