//! Sources: directories of the user's, files over HTTP, commits of git repositories. Each becomes
//! a tree, or is one.

mod context;
mod git;
mod git_access;
mod git_remote;
mod http;
mod http_access;
mod pin;
mod resolved;

use kiln_graph::Op;
use kiln_solve::{Job, ResolvedSource, SourceResolver};

use crate::EngineError;
pub use context::ContextResolver;
pub use git::GitResolver;
pub use git_access::GitOptions;
pub use http::{HttpResolver, known_checksum};
pub use pin::{Pin, Pins};

/// The sources that this machine reaches.
#[derive(Debug)]
pub struct LocalSources<'a> {
    /// Directories of the user's.
    pub contexts: ContextResolver<'a>,
    /// Commits.
    pub git: GitResolver<'a>,
    /// Files.
    pub http: HttpResolver<'a>,
    /// What branches, tags and addresses are taken to stand for.
    pub pins: &'a Pins,
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
