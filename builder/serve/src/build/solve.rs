//! Solves what was compiled.

use std::sync::Arc;

use kiln::{AttestOptions, DockerfileRequest, Error, Prepared, Texts};
use kiln_engine::{EngineError, Event, EventSink as _, ImageOptions, Request, Solved};
use kiln_sandbox::{CgroupParent, Cgroups, SandboxError};
use tonic::Status;

use super::run::Run;
use super::{Answer, Built, cache, failed_step, journal};
use crate::error::BuildError;
use crate::progress::Contexts;
use crate::proto::control::CacheOptionsEntry;

/// A graph that is ready to be solved.
pub(super) struct Ready<'a> {
    pub(super) request: Request,
    /// How its images are made.
    pub(super) options: ImageOptions,
    pub(super) texts: Texts,
    /// The build file that it was compiled from.
    pub(super) source: Option<(&'a DockerfileRequest, &'a Prepared)>,
    /// The lines of contexts in the display.
    pub(super) lines: &'a Contexts,
    pub(super) attest: AttestOptions,
}

/// How images are made that nothing is said of: times are kept unless an exporter says otherwise.
pub(super) fn image_options() -> ImageOptions {
    ImageOptions {
        keep_late_times: true,
        marks_rewritten: true,
        ..ImageOptions::default()
    }
}

/// Solves what was compiled.
pub(super) fn solve(run: &Run<'_>, ready: Ready<'_>) -> Result<Answer, BuildError> {
    let Ready {
        mut request,
        mut options,
        texts,
        source,
        lines,
        attest,
    } = ready;
    let attributes = run.client.attributes;
    let file = attributes.file_name();
    let exports = match &run.job.request.known.cache {
        Some(cache) => &cache.exports[..],
        None => &[],
    };
    let targets = cache::exports(&run.engine, &run.client, exports)?;
    options.inline = targets.inline;
    request.no_cache = attributes.no_cache();
    request.network = run.network()?;
    request.jobs = run.client.server.jobs_at_once.unwrap_or(request.jobs);
    request.secrets = run.secrets.clone();
    let journal = journal::begin(run, source.is_none());
    request.events = journal.clone();
    request.cancel = run.job.cancel.clone();
    request.cache_from = cache::imports(&run.engine, &run.client, &imports(run)?)?;
    request.cache_to = targets.remotes;
    request.cgroups = cgroups(run)?;
    let several = request.build.targets.len() > 1;
    let is_map = attributes.is_map()? || several;
    run.progress.plan(&request.build, lines, several);
    let again = run.job.is_of_the_client().then(|| request.clone());
    let solved = run.engine.solve(request);
    let message = solved.as_ref().err().map(ToString::to_string);
    let vertex = run.progress.finish(message.as_deref());
    let mut solved = solved.map_err(|error| BuildError::Kiln {
        state: again
            .as_ref()
            .and_then(|again| failed_step::told(run, again, &error, &journal))
            .map(Box::new),
        error: Box::new(error.into()),
        texts: texts.clone(),
        file: file.to_owned(),
        vertex,
    })?;
    drop(again);
    let cache_manifest = share(run, &mut solved, &targets.exports)?;
    let facts = journal::provenance(run, source, &solved, &journal)?;
    let built = Built {
        solved,
        options,
        texts,
        file: file.to_owned(),
        is_map,
        cache_manifest,
        is_definition: source.is_none(),
        attest,
        facts,
        journal,
        _scratch: run.scratch.clone(),
        _parts: Vec::new(),
    };
    Ok(Answer {
        result: Some(Arc::new(built)),
        ..Answer::default()
    })
}

/// What steps may use, if the client limits it: nothing of it leads out of what the server may use.
pub(super) fn cgroups(run: &Run<'_>) -> Result<Option<Arc<Cgroups>>, BuildError> {
    let attributes = run.client.attributes;
    let parent = CgroupParent::Own(attributes.cgroup_parent()?);
    let cgroups = Cgroups::new(attributes.resources()?, &parent);
    let cgroups = cgroups.map_err(|error| Error::from(SandboxError::from(error)))?;
    Ok(cgroups.map(Arc::new))
}

/// The caches to take results from: clients name them in up to three places.
fn imports(run: &Run<'_>) -> Result<Vec<CacheOptionsEntry>, Status> {
    let mut all = run.asked.imports.clone();
    let cache = run.job.request.known.cache.clone().unwrap_or_default();
    let attributes = cache::imports_of(run.client.attributes)?;
    for entry in cache.imports.into_iter().chain(attributes) {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    Ok(all)
}

/// Waits until shared caches have what they lacked. Gives what the client is told of a cache in its directory.
fn share(
    run: &Run<'_>,
    solved: &mut Solved,
    exports: &[cache::CacheExport],
) -> Result<Option<String>, BuildError> {
    let mut told = None;
    for (export, sent) in exports.iter().zip(solved.exported()) {
        let (name, is_tolerant) = (&export.name, export.is_tolerant);
        let line = format!("exporting cache to {name}");
        let done = run.progress.during(&line, |_| {
            _ = sent.map_err(failed)?;
            export.finish()
        });
        match done {
            Err(error) if is_tolerant => run.progress.event(Event::Warning {
                message: format!("the cache was not exported to {name}: {error}"),
            }),
            done => told = done?.or(told),
        }
    }
    Ok(told)
}

fn failed(error: EngineError) -> BuildError {
    Error::from(error).into()
}
