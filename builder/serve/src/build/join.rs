//! Results of several solves that a client returns as one, one for each platform; and one of a solve that has several.

use std::collections::HashMap;
use std::sync::Arc;

use kiln::{Error, Provenance};
use kiln_engine::{Joined, Solved};
use kiln_graph::Platform;
use serde::Deserialize;
use tonic::Status;

use super::{Built, Kept, image_config};
use crate::error::BuildError;

/// The platforms of a result, as clients list them.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Platforms {
    platforms: Vec<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Platform")]
    platform: About,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    os: String,
    architecture: String,
    variant: String,
    #[serde(rename = "os.version")]
    os_version: String,
}

impl About {
    fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant).with_os_version(&self.os_version)
    }
}

/// Joins results by the names of their platforms; `metadata` says what these are, and how the images are
/// configured.
pub(super) fn join(
    results: &HashMap<String, Kept>,
    metadata: &HashMap<String, Vec<u8>>,
) -> Result<Arc<Built>, BuildError> {
    let missing = || Status::unknown("unable to export multiple refs, missing platforms mapping");
    let list = metadata.get("refs.platforms").ok_or_else(missing)?;
    let list: Platforms = serde_json::from_slice(list)
        .map_err(|error| Status::unknown(format!("failed to parse platforms: {error}")))?;
    let (mut parts, mut joined) = (Vec::new(), Vec::new());
    for named in &list.platforms {
        let kept = results
            .get(&named.id)
            .ok_or_else(|| Status::unknown(format!("failed to find ref for ID {}", named.id)))?;
        let config = metadata.get(&format!("containerimage.config/{}", named.id));
        let config = config.filter(|_| kept.built.is_definition);
        parts.push(Joined {
            solved: &kept.built.solved,
            target: kept.number,
            platform: named.platform.platform(),
            config: config.map(|json| image_config(json)).transpose()?,
        });
        joined.push(kept.clone());
    }
    let solved = Solved::join(&parts).map_err(Error::from)?;
    let builts = builts_of(&joined);
    let first = builts.first().ok_or_else(missing)?.clone();
    let facts: Vec<&Provenance> = builts.iter().map(|built| &built.facts).collect();
    Ok(Arc::new(Built {
        is_map: true,
        cache_manifest: builts.iter().find_map(|built| built.cache_manifest.clone()),
        // Each has its own configuration already.
        is_definition: false,
        facts: joined_facts(&facts),
        ..made_from(&first, solved, joined)
    }))
}

/// One result of a build as all that there is of it.
pub(super) fn select(kept: &Kept) -> Result<Arc<Built>, BuildError> {
    let nothing = || Status::unknown("a result of a build that has no such target");
    let target = kept.target().ok_or_else(nothing)?;
    let part = Joined {
        solved: &kept.built.solved,
        target: kept.number,
        platform: target.platform.clone(),
        config: None,
    };
    let solved = Solved::join(&[part]).map_err(Error::from)?;
    Ok(Arc::new(made_from(&kept.built, solved, vec![kept.clone()])))
}

/// What was taken from builds, with what is said of one of them.
fn made_from(built: &Built, solved: Solved, parts: Vec<Kept>) -> Built {
    Built {
        solved,
        options: built.options.clone(),
        texts: built.texts.clone(),
        file: built.file.clone(),
        is_map: false,
        cache_manifest: built.cache_manifest.clone(),
        is_definition: built.is_definition,
        attest: built.attest.clone(),
        facts: built.facts.clone(),
        journal: built.journal.clone(),
        _scratch: built._scratch.clone(),
        _parts: parts,
    }
}

/// The builds of results, each once, in the order of the results.
fn builts_of(results: &[Kept]) -> Vec<Arc<Built>> {
    let mut builts: Vec<Arc<Built>> = Vec::new();
    for kept in results {
        if !builts.iter().any(|known| Arc::ptr_eq(known, &kept.built)) {
            builts.push(kept.built.clone());
        }
    }
    builts
}

/// What is known of all, as of one build.
fn joined_facts(all: &[&Provenance]) -> Provenance {
    let mut whole = all.first().copied().cloned().unwrap_or_default();
    for (number, other) in all.iter().enumerate().skip(1) {
        let other = (*other).clone();
        for dependency in other.dependencies {
            if !whole.dependencies.contains(&dependency) {
                whole.dependencies.push(dependency);
            }
        }
        whole.secrets.extend(other.secrets);
        whole.ssh.extend(other.ssh);
        for name in other.locals {
            if !whole.locals.contains(&name) {
                whole.locals.push(name);
            }
        }
        let renamed = |id: &String| format!("solve{number}-{id}");
        for mut step in other.steps {
            step.inputs = step.inputs.iter().map(renamed).collect();
            step.id = renamed(&step.id);
            whole.steps.push(step);
        }
        whole.started = whole.started.min(other.started);
        whole.finished = whole.finished.max(other.finished);
        whole.hermetic &= other.hermetic;
        whole.reproducible &= other.reproducible;
    }
    whole
}
