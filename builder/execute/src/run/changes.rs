//! What a command changed.

use kiln_cache::{Staging, StoreError};
use kiln_graph::{ImagePath, Manifest, Timestamp};
use kiln_tree::upper::{self, UpperOptions};

use super::root_copy;
use crate::EngineError;
use crate::snapshotter::Snapshotter;
use crate::unchanged::without_unchanged;
use crate::view::View;

/// Finds out what a command changed.
pub(super) struct Changes<'a> {
    pub(super) trees: &'a Snapshotter,
    /// The files of its root before it ran.
    pub(super) base: &'a View,
    /// When it was started.
    pub(super) started: Timestamp,
    /// Whether its root was a copy.
    pub(super) copied: bool,
}

impl Changes<'_> {
    /// What the command changed.
    pub(super) fn of(&self, staging: Staging) -> Result<(Staging, Manifest), EngineError> {
        let owner = |path: &ImagePath, uid: u32, gid: u32| match self.base.get(path) {
            Some(found) if !self.trees.gives_away => (found.entry.uid, found.entry.gid),
            _ => (uid, gid),
        };
        let options = UpperOptions {
            xattrs: self.trees.store.xattrs(),
            started: self.started,
            owner: &owner,
        };
        let manifest = upper::scan(staging.root(), &options).map_err(StoreError::from)?;
        if self.copied {
            return root_copy::changes(self.trees, &staging, self.base, &manifest);
        }
        let manifest = without_unchanged(manifest, self.base, staging.root());
        Ok((staging, manifest))
    }
}
