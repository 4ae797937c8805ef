//! Files out of a step's result, or out of what a failed step left behind.

use kiln_execute::{EngineError, Snapshotter, View, view_of};
use kiln_graph::{Entry, ImagePath};
use kiln_solve::{EventSink, Snapshot};
use kiln_tree::TreePath;

use crate::output_entry::OutputEntry;

/// The files at a path of a root filesystem: what a directory holds, or a file by its name; links
/// on the way are followed. Nothing where there is nothing.
///
/// # Errors
/// When layers can't be fetched or read.
pub fn extract(
    trees: &Snapshotter,
    snapshot: &Snapshot,
    path: &ImagePath,
    events: &dyn EventSink,
) -> Result<Option<Vec<OutputEntry>>, EngineError> {
    let stack = trees.trees(snapshot, events)?;
    Ok(files_at(&view_of(&stack)?, path))
}

fn files_at(view: &View, path: &ImagePath) -> Option<Vec<(Entry, TreePath)>> {
    let path = view.resolve(path, true);
    let found = view.get(&path)?;
    let base = match found.entry.is_directory() {
        true => path.clone(),
        false => path.parent().unwrap_or_default(),
    };
    let all = view.one_tree_below(&path).into_iter();
    Some(
        all.map(|(entry, host)| (entry.seen_from(&base), host))
            .collect(),
    )
}
