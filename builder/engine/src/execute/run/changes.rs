//! What a command changed, without the traces of its surroundings.

use kiln_cache::{Staging, StoreError};
use kiln_graph::{Entry, ImagePath, Manifest, Node, Timestamp};
use kiln_sandbox::{Finished, Ways};
use kiln_tree::upper::{self, UpperOptions};

use crate::EngineError;
use crate::execute::view::View;
use crate::solve::step::Shared;

impl Shared<'_> {
    /// What the command changed, without the traces of mount points.
    pub(super) fn changes(
        &self,
        staging: Staging,
        started: Timestamp,
        base: &View,
        finished: &Finished,
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
        let manifest = without_traces(manifest, base, finished, &staging);
        Ok((staging, manifest))
    }
}

/// Drops unchanged copies of folders in which only mount points were made for a while.
fn without_traces(
    manifest: Manifest,
    base: &View,
    finished: &Finished,
    staging: &Staging,
) -> Manifest {
    let mut suspects: Vec<ImagePath> = finished
        .mount_parents
        .iter()
        .map(|path| base.resolve(&ImagePath::new(path.to_string_lossy().as_bytes()), true))
        .flat_map(|path| path.ancestors().chain([path.clone()]).collect::<Vec<_>>())
        .collect();
    suspects.sort();
    suspects.dedup();
    let mut entries = manifest.into_entries();
    for suspect in suspects.iter().rev() {
        let is_alone = entries
            .iter()
            .filter(|entry| entry.path.starts_with(suspect))
            .count()
            == 1;
        let same = entries
            .iter()
            .find(|entry| entry.path == *suspect)
            .is_some_and(|entry| {
                let was = base.get(suspect).map(|found| found.entry);
                was.is_some_and(|was| same_folder(was, entry))
            });
        if is_alone && same && staging.root().remove_directory(suspect).is_ok() {
            entries.retain(|entry| entry.path != *suspect);
        }
    }
    Manifest::new(entries)
}

fn same_folder(was: &Entry, is: &Entry) -> bool {
    matches!(is.node, Node::Directory { opaque: false })
        && (was.mode, was.uid, was.gid, &was.xattrs) == (is.mode, is.uid, is.gid, &is.xattrs)
}
