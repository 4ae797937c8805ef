//! Results that shared caches know by name only: which trees they are, and how to do without.

use kiln_graph::TreeId;
use kiln_share::CacheSource;
use kiln_solve::{LayerRef, StepResult};

/// The trees of a result that steps made.
pub(crate) fn trees_of(result: &StepResult) -> Vec<TreeId> {
    let StepResult::Snapshot(snapshot) = result else {
        return Vec::new();
    };
    let layers = snapshot.layers().iter();
    let trees = layers.filter_map(|layer| match layer {
        LayerRef::Tree(id) => Some(*id),
        LayerRef::Image { .. } => None,
    });
    trees.collect()
}

/// Whether results of shared caches count whose files these don't have.
pub(crate) fn take_names(sources: &[CacheSource]) -> bool {
    sources.iter().any(CacheSource::takes_names)
}

/// Has builds use only what shared caches have the files of.
pub(crate) fn forget_names(sources: &[CacheSource]) {
    for source in sources {
        source.forget_names();
    }
}
