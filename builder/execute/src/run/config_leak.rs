//! Looks for secrets in what images say of themselves.

use kiln_graph::{Build, Op};

use super::leak::{Finder, found, unsearched};
use super::mask::Hidden;
use crate::EngineError;
use crate::secret::{SecretProvider, unreadable};

/// The secrets that the steps of a build name.
fn named(build: &Build) -> Vec<&str> {
    let steps = build.graph.steps();
    let mounts = steps.filter_map(|(_, step)| match &step.op {
        Op::Exec(exec) => Some(exec.mounts.iter()),
        _ => None,
    });
    let mut ids: Vec<&str> = mounts
        .flatten()
        .filter_map(|mount| match &mount.kind {
            kiln_graph::MountKind::Secret(secret) => Some(secret.id.as_str()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Searches the configurations and histories of the images that are wanted, for the secrets that are
/// at hand: nobody is asked for one that no step was given.
///
/// # Errors
/// When one has a secret, or a secret can't be read.
pub fn check_configurations(build: &Build, given: &dyn SecretProvider) -> Result<(), EngineError> {
    let mut secrets = Vec::new();
    for id in named(build) {
        if !given.is_sensitive(id) {
            continue;
        }
        let value = given.at_hand(id);
        let value = value.map_err(unreadable(id, None))?;
        secrets.extend(value.map(|value| Hidden::new(id, value.expose())));
    }
    let Some(finder) = Finder::new(&secrets)? else {
        return Ok(());
    };
    for target in &build.targets {
        let config = serde_json::to_vec(&target.config);
        let config = config.map_err(|error| unsearched("the image's configuration", &error))?;
        if let Some(hit) = finder.bytes(&config) {
            return Err(found(hit, "the image's configuration", None));
        }
        let mut lines = target.history.iter();
        if let Some(hit) = lines.find_map(|line| finder.bytes(line.created_by.as_bytes())) {
            return Err(found(hit, "the image's history", None));
        }
    }
    Ok(())
}
