//! What a build took from elsewhere, and what its steps were given.

use std::collections::BTreeMap;

use kiln_attest::image_purl;
use kiln_attest::provenance::{Dependency, Given};
use kiln_cache::Store;
use kiln_execute::{DefaultNetwork, EngineError, known_checksum};
use kiln_graph::{Build, GitSource, HttpSource, ImageSource, MountKind, Network, Op, Step, StepId};
use kiln_image::{ImageName, Reference};
use kiln_sandbox::{Isolation, Selection};
use kiln_solve::Outcome;

use crate::built::Built;

/// The steps that the targets need, in the order of the graph.
#[must_use]
pub fn needed_steps(build: &Build) -> Vec<StepId> {
    build.graph.needed_for(&build.roots())
}

/// The images, commits and files that the build took from elsewhere, with their digests.
///
/// # Errors
/// When the store can't be read.
pub fn dependencies(built: Built<'_>) -> Result<Vec<Dependency>, EngineError> {
    let mut all = Vec::new();
    for id in needed_steps(built.build) {
        let step = built.build.graph.step(id);
        match &step.op {
            Op::Image(source) => all.push(image(step, source)),
            Op::Git(source) => all.push(commit(built, id, source)),
            Op::Http(source) => all.push(download(&built.trees.store, source)?),
            _ => {}
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn commit(built: Built<'_>, id: StepId, source: &GitSource) -> Dependency {
    let commit = built.solution.revisions.get(&id).cloned();
    let mark = if source.reference.is_empty() { "" } else { "#" };
    Dependency {
        uri: format!("{}{mark}{}", source.remote, source.reference),
        digest: commit
            .map(|commit| ("sha1".to_owned(), commit))
            .into_iter()
            .collect(),
    }
}

fn download(store: &Store, source: &HttpSource) -> Result<Dependency, EngineError> {
    let sum = known_checksum(store, source)?.or(source.checksum);
    Ok(Dependency {
        uri: source.url.clone(),
        digest: sum
            .map(|sum| ("sha256".to_owned(), sum.hex()))
            .into_iter()
            .collect(),
    })
}

/// The names of the local contexts that the targets need.
#[must_use]
pub fn contexts_used(build: &Build) -> Vec<String> {
    let steps = needed_steps(build).into_iter();
    let name = |id| match &build.graph.step(id).op {
        Op::Context(context) => Some(context.name.clone()),
        _ => None,
    };
    let mut names: Vec<String> = steps.filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// The secrets and the SSH agents that steps were given.
#[must_use]
pub fn given(build: &Build) -> (Vec<Given>, Vec<Given>) {
    let (mut secrets, mut agents) = (Vec::new(), Vec::new());
    for id in needed_steps(build) {
        let Op::Exec(exec) = &build.graph.step(id).op else {
            continue;
        };
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Secret(secret) => secrets.push(Given {
                    id: secret.id.clone(),
                    optional: !secret.required,
                }),
                MountKind::Ssh(agent) => agents.push(Given {
                    id: agent.id.clone(),
                    optional: !agent.required,
                }),
                _ => {}
            }
        }
    }
    for list in [&mut secrets, &mut agents] {
        list.sort();
        list.dedup();
    }
    (secrets, agents)
}

/// Whether no command could reach anything but its inputs: neither a network, nor a volume that
/// outlives builds, nor an agent. `network` is that of steps that don't say which they want. A
/// result that was there already may have been made with another, or without namespaces, which
/// can't take the network away.
#[must_use]
pub fn is_hermetic(
    build: &Build,
    selection: &Selection,
    network: DefaultNetwork,
    outcome: &dyn Fn(StepId) -> Option<Outcome>,
) -> bool {
    let ways = selection.ways();
    let has_namespaces = ways.is_ok_and(|ways| ways.isolation == Isolation::Namespaces);
    needed_steps(build).into_iter().all(|id| {
        let Op::Exec(exec) = &build.graph.step(id).op else {
            return true;
        };
        let is_off = match exec.network {
            Network::None => true,
            Network::Default => network == DefaultNetwork::None,
            Network::Host | Network::Sandbox => false,
        };
        let was_seen = has_namespaces && outcome(id) == Some(Outcome::Ran);
        let brings_more = |mount: &kiln_graph::Mount| {
            matches!(mount.kind, MountKind::Cache(_) | MountKind::Ssh(_))
        };
        is_off && was_seen && !exec.mounts.iter().any(brings_more)
    })
}

fn image(step: &Step, source: &ImageSource) -> Dependency {
    let manifest = ("sha256".to_owned(), source.manifest.hex());
    let Ok(ImageName::Registry(reference)) = source.name.parse::<ImageName>() else {
        return Dependency {
            uri: source.name.clone(),
            digest: [manifest].into(),
        };
    };
    let Reference {
        host,
        repository,
        tag,
        digest,
    } = reference;
    let named = digest.map_or(manifest, |digest| ("sha256".to_owned(), digest.hex()));
    Dependency {
        uri: image_purl(
            &format!("{host}/{repository}"),
            tag.as_deref(),
            None,
            &step.platform.to_string(),
        ),
        digest: BTreeMap::from([named]),
    }
}
