//! Sources: directories of the user's, files over HTTP, commits of git repositories. Each becomes
//! a tree, or is one.

pub(crate) mod context;
mod git;
mod git_access;
mod git_remote;
mod http;
pub(crate) mod pin;

use kiln_cache::Tree;
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Op};

use crate::EngineError;
use context::ContextResolver;
pub(crate) use git::{Git, GitResolver};
pub(crate) use git_access::GitOptions;
pub(crate) use http::{HttpResolver, known_download};
use kiln_solve::{Job, LayerRef, Outcome, ResolvedSource, Snapshot, SourceResolver, StepResult};
use pin::Pins;

/// The sources that this machine reaches.
pub(crate) struct LocalSources<'a> {
    pub(crate) contexts: ContextResolver<'a>,
    pub(crate) git: GitResolver<'a>,
    pub(crate) http: HttpResolver<'a>,
    /// What branches, tags and addresses are taken to stand for.
    pub(crate) pins: &'a Pins,
}

impl SourceResolver<EngineError> for LocalSources<'_> {
    fn resolve(&self, job: &Job<'_>) -> Result<ResolvedSource, EngineError> {
        match &job.step.op {
            Op::Context(context) => self.contexts.resolve(context),
            Op::Git(source) => self.git.resolve(job, &self.pins.git(source)),
            Op::Http(source) => self.http.resolve(job.step, &self.pins.http(source)),
            _ => Err(EngineError::Defect(format!(
                "{} is no source",
                job.step.name
            ))),
        }
    }
}

fn resolved(tree: &Tree, outcome: Outcome) -> ResolvedSource {
    let snapshot = Snapshot::new(vec![LayerRef::Tree(tree.id())]);
    ResolvedSource {
        result: StepResult::Snapshot(snapshot),
        outcome,
        revision: None,
    }
}

fn memo_key(parts: &[&str]) -> Digest {
    let mut out = Encoder::new("kiln-source", 1);
    out.seq(parts, |out, part| {
        out.str(part);
    });
    out.finish()
}
