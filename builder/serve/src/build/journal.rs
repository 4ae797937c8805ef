//! What is noted of a client's build, and what its provenance tells.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use kiln::{About, BuildFacts, DockerfileRequest, Journal, Prepared, Provenance};
use kiln_engine::Solved;
use kiln_graph::address::redact;

use super::frontend::DOCKERFILE;
use super::run::Run;
use crate::error::BuildError;

/// Begins to note what happens, for `kiln history` and `explain`.
pub(super) fn begin(run: &Run<'_>, is_definition: bool) -> Arc<Journal> {
    let attributes = run.client.attributes;
    let file = match is_definition {
        true => "LLB definition",
        false => attributes.file_name(),
    };
    let context = attributes.text("context");
    // Clients give the name of their directory before a colon.
    let shared = run.client.session.shared_key.split(':').next();
    let context = context.or(shared).filter(|name| !name.is_empty());
    let target = attributes.text("target").unwrap_or_default();
    let mut title = match context {
        Some(context) => format!("{file} of {context}"),
        None => format!("{file} of a client"),
    };
    if !target.is_empty() {
        title.push_str(&format!(" ({target})"));
    }
    let subject = format!("client\n{}\n{file}\n{target}", context.unwrap_or_default());
    let about = About {
        subject: redact(&subject).into_owned(),
        title: redact(&title).into_owned(),
        // It can't be asked for without the client.
        plan: serde_json::Value::Null,
    };
    let store = run.engine.store().clone();
    let journal = Arc::new(Journal::new(store, run.progress.clone(), about));
    // What clients ask for besides a build, such as a bake file in a repository, is no build.
    if !run.job.request.known.internal {
        run.job.remember(journal.clone());
    }
    journal
}

/// What provenance tells.
pub(super) fn provenance(
    run: &Run<'_>,
    source: Option<(&DockerfileRequest, &Prepared)>,
    solved: &Solved,
    journal: &Journal,
) -> Result<Provenance, BuildError> {
    let began = run.job.begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    let facts = BuildFacts {
        source,
        solved,
        network: run.network()?,
        invocation: run.job.reference.clone(),
        started: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
        steps: &journal.results(),
        reproducible: false,
    };
    let attributes = run.client.attributes;
    let vcs = ["source", "revision"].into_iter().filter_map(|name| {
        let value = attributes.text(&format!("vcs:{name}"))?;
        Some((name.to_owned(), value.to_owned()))
    });
    let mut told = Provenance {
        // The directory is a copy in this server's store: of its repository the client knows.
        vcs: vcs.collect(),
        dockerfile_version: source.map(|_| DOCKERFILE.to_owned()),
        ..facts.provenance()?
    };
    if let (Some(frontend), None) = (&run.job.frontend, source) {
        let theirs = &frontend.facts;
        told.frontend.clone_from(&theirs.frontend);
        told.args.clone_from(&theirs.args);
        for dependency in &theirs.dependencies {
            if !told.dependencies.contains(dependency) {
                told.dependencies.push(dependency.clone());
            }
        }
    }
    Ok(told)
}
