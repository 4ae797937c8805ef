//! What a step asks of a worker, where it runs on a cluster.

use kiln_graph::WorkerProperties;

use super::step::Work;
use crate::error::Wrong;

/// `[steps.NAME.remote]`.
pub(super) fn properties_of(work: &Work<'_, '_>) -> Result<WorkerProperties, Wrong> {
    let mut all = WorkerProperties::none();
    let properties = work.step.remote.iter();
    for (name, value) in properties.flat_map(|remote| &remote.properties) {
        let filled = work.view.fill(value)?;
        let added = all.add(name.as_str(), &filled);
        added.map_err(|error| Wrong::at(&value.span, error.to_string()))?;
    }
    Ok(all)
}
