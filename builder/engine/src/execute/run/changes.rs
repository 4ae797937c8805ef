//! What a command changed.

use kiln_cache::{Staging, StoreError};
use kiln_graph::{ImagePath, Manifest, Timestamp};
use kiln_sandbox::Ways;
use kiln_tree::upper::{self, UpperOptions};

use crate::EngineError;
use crate::execute::unchanged::without_unchanged;
use crate::execute::view::View;
use crate::solve::step::Shared;

impl Shared<'_> {
    /// What the command changed.
    pub(super) fn changes(
        &self,
        staging: Staging,
        started: Timestamp,
        base: &View,
        ways: Ways,
    ) -> Result<(Staging, Manifest), EngineError> {
        let owner = |path: &ImagePath, uid: u32, gid: u32| match base.get(path) {
            Some(found) if !self.engine.gives_away() => (found.entry.uid, found.entry.gid),
            _ => (uid, gid),
        };
        if self.copies_root(ways) {
            return self.engine.changes_of_copy(&staging, base, started, &owner);
        }
        let xattrs = self.engine.store.xattrs();
        let options = UpperOptions {
            xattrs,
            started,
            owner: &owner,
        };
        let manifest = upper::scan(staging.root(), &options).map_err(StoreError::from)?;
        let manifest = without_unchanged(manifest, base, staging.root());
        Ok((staging, manifest))
    }
}
