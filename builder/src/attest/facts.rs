//! What is known of a build that has been solved, for its provenance.

use std::collections::BTreeMap;

use kiln_attest::provenance::{Dependency, Provenance, StepFact, without_credentials};
use kiln_engine::{DefaultNetwork, Outcome, Solved, StepRef};
use kiln_graph::{PROXIES, Platform, StepId, StepKey};

use super::vcs;
use crate::millis::now;
use crate::{ContextFrom, DockerfileRequest, Error, Prepared};

/// A build, and what is remembered of it.
#[derive(Debug)]
pub struct BuildFacts<'a> {
    /// What was asked for, and what became of the build file; nothing for a graph without one.
    pub source: Option<(&'a DockerfileRequest, &'a Prepared)>,
    /// The result.
    pub solved: &'a Solved,
    /// The network of steps that didn't say which they want.
    pub network: DefaultNetwork,
    /// What identifies the build.
    pub invocation: String,
    /// When it began, in milliseconds since 1970.
    pub started: u64,
    /// What became of each step.
    pub steps: &'a BTreeMap<StepRef, StepResult>,
    /// Whether running it again gave the same.
    pub reproducible: bool,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepResult {
    /// Whether it ran, if it has ended.
    pub outcome: Option<Outcome>,
    /// Its key.
    pub key: Option<StepKey>,
    /// How long it took, in milliseconds.
    pub took: u64,
}

impl BuildFacts<'_> {
    /// All that provenance can tell.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn provenance(&self) -> Result<Provenance, Error> {
        let (secrets, ssh) = self.solved.given();
        let fetched = match self.source {
            Some((_, prepared)) => prepared.fetched()?,
            None => Vec::new(),
        };
        let mut dependencies = self.solved.dependencies()?;
        dependencies.extend(fetched.iter().cloned());
        let outcome = |id: StepId| self.outcome(id);
        Ok(Provenance {
            secrets,
            ssh,
            platform: Platform::host().to_string(),
            dependencies,
            steps: self.steps(),
            invocation: self.invocation.clone(),
            started: self.started,
            finished: now(),
            hermetic: self.solved.is_hermetic(self.network, &outcome),
            reproducible: self.reproducible,
            ..self.of_file(&fetched)
        })
    }

    /// What the build file tells.
    fn of_file(&self, fetched: &[Dependency]) -> Provenance {
        let Some((request, prepared)) = self.source else {
            return Provenance {
                frontend: "graph".to_owned(),
                locals: self.solved.contexts_used(),
                ..Provenance::default()
            };
        };
        let frontend = match prepared.file {
            Some(_) => "dockerfile.v0",
            None => "kiln.toml",
        };
        Provenance {
            frontend: frontend.to_owned(),
            config_source: config_source(request, fetched),
            path: prepared.options.file_name.clone(),
            text: prepared.texts.main().to_owned(),
            args: args(prepared),
            locals: self.locals(request),
            vcs: vcs_of(request),
            ..Provenance::default()
        }
    }

    /// Contexts that nothing but this machine has. The build file comes from the main one.
    fn locals(&self, request: &DockerfileRequest) -> Vec<String> {
        let is_local = |from: &ContextFrom| !matches!(from, ContextFrom::Remote(_));
        let mut names = self.solved.contexts_used();
        names.retain(|name| match name.as_str() {
            "context" => is_local(&request.context),
            other => request.contexts.get(other).is_none_or(is_local),
        });
        if is_local(&request.context) {
            names.push("dockerfile".to_owned());
        }
        names
    }

    fn outcome(&self, id: StepId) -> Option<Outcome> {
        let outcome = self.steps.get(&id.into())?.outcome;
        outcome.filter(|outcome| matches!(outcome, Outcome::Ran | Outcome::Cached))
    }

    fn steps(&self) -> Vec<StepFact> {
        let graph = &self.solved.build().graph;
        let name = |id: StepId| format!("step{}", id.index());
        let one = |id: StepId| {
            let step = graph.step(id);
            let built = self.steps.get(&id.into());
            let outcome = match self.outcome(id) {
                Some(Outcome::Ran) => "ran",
                _ => "cached",
            };
            StepFact {
                id: name(id),
                name: step.name.to_string(),
                lines: step.location.as_ref().map(|at| (at.line, at.end_line)),
                inputs: graph.inputs(id).iter().map(|input| name(*input)).collect(),
                key: built.and_then(|built| built.key).map(|key| key.to_string()),
                outcome: outcome.to_owned(),
                duration: built.map_or(0, |built| built.took),
            }
        };
        self.solved.needed_steps().into_iter().map(one).collect()
    }
}

/// What the main context was fetched from, when it isn't local.
fn config_source(request: &DockerfileRequest, fetched: &[Dependency]) -> Option<Dependency> {
    let ContextFrom::Remote(address) = &request.context else {
        return None;
    };
    let start = |text: &str| {
        let text = without_credentials(text);
        text.split('#').next().unwrap_or_default().to_owned()
    };
    let found = fetched.iter().find(|one| start(&one.uri) == start(address));
    let digest = found.map(|one| one.digest.clone()).unwrap_or_default();
    Some(Dependency {
        uri: address.clone(),
        digest,
    })
}

fn args(prepared: &Prepared) -> BTreeMap<String, String> {
    let options = &prepared.options;
    let own = options
        .build_args
        .iter()
        .filter(|(name, _)| !PROXIES.contains(&name.as_str()));
    let own = own.map(|(name, value)| (format!("build-arg:{name}"), value.clone()));
    let labels = options.labels.iter();
    let labels = labels.map(|(name, value)| (format!("label:{name}"), value.clone()));
    let mut args: BTreeMap<String, String> = own.chain(labels).collect();
    let target = options.target.clone();
    args.extend(target.map(|target| ("target".to_owned(), target)));
    args
}

fn vcs_of(request: &DockerfileRequest) -> BTreeMap<String, String> {
    match &request.context {
        ContextFrom::Directory(directory) => vcs::of(directory),
        _ => BTreeMap::new(),
    }
}
