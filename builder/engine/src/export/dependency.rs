//! What a build took from elsewhere, and what its steps were given.

use std::collections::BTreeMap;

use kiln_attest::image_purl;
use kiln_attest::provenance::{Dependency, Given};
use kiln_graph::{GitSource, HttpSource, ImageSource, MountKind, Network, Op, Step, StepId};
use kiln_image::{ImageName, Reference};
use kiln_sandbox::Isolation;

use crate::execute::source::known_download;
use crate::solve::scheduler::Solved;
use crate::{DefaultNetwork, EngineError, Outcome};

impl Solved {
    /// The steps that the targets need, in the order of the graph.
    #[must_use]
    pub fn needed_steps(&self) -> Vec<StepId> {
        let roots: Vec<StepId> = self
            .build
            .targets
            .iter()
            .map(|target| target.root)
            .collect();
        self.build.graph.needed_for(&roots)
    }

    /// The images, commits and files that the build took from elsewhere, with their digests.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn dependencies(&self) -> Result<Vec<Dependency>, EngineError> {
        let mut all = Vec::new();
        for id in self.needed_steps() {
            let step = self.build.graph.step(id);
            match &step.op {
                Op::Image(source) => all.push(image(step, source)),
                Op::Git(source) => all.push(self.commit(id, source)),
                Op::Http(source) => all.push(self.download(source)?),
                _ => {}
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn commit(&self, id: StepId, source: &GitSource) -> Dependency {
        let commit = self.commits.get(&id).cloned();
        let mark = if source.reference.is_empty() { "" } else { "#" };
        Dependency {
            uri: format!("{}{mark}{}", source.remote, source.reference),
            digest: commit
                .map(|commit| ("sha1".to_owned(), commit))
                .into_iter()
                .collect(),
        }
    }

    fn download(&self, source: &HttpSource) -> Result<Dependency, EngineError> {
        let known = known_download(&self.engine.store, source)?;
        let sum = known.and_then(|known| known.sum).or(source.checksum);
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
    pub fn contexts_used(&self) -> Vec<String> {
        let steps = self.needed_steps().into_iter();
        let name = |id| match &self.build.graph.step(id).op {
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
    pub fn given(&self) -> (Vec<Given>, Vec<Given>) {
        let (mut secrets, mut agents) = (Vec::new(), Vec::new());
        for id in self.needed_steps() {
            let Op::Exec(exec) = &self.build.graph.step(id).op else {
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
        &self,
        network: DefaultNetwork,
        outcome: &dyn Fn(StepId) -> Option<Outcome>,
    ) -> bool {
        let ways = self.engine.selection.ways();
        let has_namespaces = ways.is_ok_and(|ways| ways.isolation == Isolation::Namespaces);
        self.needed_steps().into_iter().all(|id| {
            let Op::Exec(exec) = &self.build.graph.step(id).op else {
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
