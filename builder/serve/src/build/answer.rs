//! One call of a frontend: reads the build file, brings contexts here, solves.

use std::sync::Arc;

use kiln::{DockerfileRequest, Error, Opened, Prepared, open_build_file};
use kiln_graph::{BlobDigest, ImageRequest, ImageTable};
use tonic::Status;

use super::run::{Run, run};
use super::solve::{Ready, image_options, solve};
use super::{Answer, Asked, context_source, definition, frontend, gateway, question, source_meta};
use crate::error::BuildError;
use crate::job::Job;
use crate::progress::Contexts;
use crate::proto::sourcepolicy::Policy;
use crate::server::Server;

/// Runs a frontend.
pub(crate) async fn build(
    server: Arc<Server>,
    job: Arc<Job>,
    asked: Asked,
) -> Result<Answer, BuildError> {
    let foreign = match asked.definition {
        Some(_) => None,
        None => frontend::check(&asked, &server.frontends)?,
    };
    let work = move || {
        run(&server, &job, &asked, |run| match &foreign {
            Some(foreign) => gateway::answer(run, foreign),
            None => answer(run),
        })
    };
    apart(work).await
}

/// What an image's name stands for.
pub(crate) struct Image {
    /// Its name, or that of the image that a policy puts in its place.
    pub(crate) name: String,
    pub(crate) digest: BlobDigest,
    /// Its configuration, as JSON.
    pub(crate) config: Vec<u8>,
}

/// Finds out what an image's name stands for.
pub(crate) async fn resolve_image(
    server: Arc<Server>,
    job: Arc<Job>,
    mode: String,
    policies: Vec<Policy>,
    wanted: ImageRequest,
) -> Result<Image, BuildError> {
    let mode = (!mode.is_empty()).then(|| ("image-resolve-mode".to_owned(), mode));
    let asked = Asked {
        attributes: mode.into_iter().collect(),
        policies,
        ..Asked::default()
    };
    apart(move || run(&server, &job, &asked, |run| image_config(run, &wanted))).await
}

/// Finds out what a file on a web server is.
pub(crate) async fn resolve_file(
    server: Arc<Server>,
    job: Arc<Job>,
    policies: Vec<Policy>,
    url: String,
) -> Result<BlobDigest, BuildError> {
    let asked = Asked {
        policies,
        ..Asked::default()
    };
    apart(move || run(&server, &job, &asked, |run| source_meta::file(run, &url))).await
}

/// Does something that blocks on a thread of its own.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    let work = move || {
        _ = sender.send(work());
    };
    let thread = std::thread::Builder::new().name("build".to_owned());
    thread.spawn(work).map_err(|source| BuildError::Host {
        what: "cannot start a thread",
        source,
    })?;
    let early = || BuildError::from(Status::internal("the build ended early"));
    answer.await.map_err(|_| early())?
}

/// Answers a call.
fn answer(run: &Run<'_>) -> Result<Answer, BuildError> {
    if let Some(definition) = &run.asked.definition {
        return definition::build(run, definition);
    }
    let attributes = run.client.attributes;
    let mut request = run.request()?;
    let locals = match context_source::contexts(run, &mut request) {
        Err(BuildError::Frontend(foreign)) => return gateway::answer(run, &foreign),
        other => other?,
    };
    if let Some(question) = attributes.text("requestid") {
        let said = question::answer(&run.engine, request, question)?;
        return Ok(Answer { result: None, said });
    }
    let opened = open_build_file(&run.engine, &request)?;
    let mut lines = Contexts::new();
    if opened.is_toml() {
        // What it includes is read while it is compiled.
        for (name, local) in &locals {
            lines.insert(name.clone(), run.client.transfer(local, Vec::new())?);
        }
    }
    let attest = attributes.attestations()?;
    let prepared = prepare(run, &opened, &request)?;
    if !opened.is_toml() {
        lines = run.client.bring(&prepared.compiled.build.graph, &locals)?;
    }
    let mut options = image_options();
    kiln::suit_options(&mut options, &prepared);
    solve(
        run,
        Ready {
            request: prepared.request(),
            options,
            texts: prepared.texts.clone(),
            source: Some((&request, &prepared)),
            lines: &lines,
            attest,
        },
    )
}

pub(super) fn image_config(run: &Run<'_>, wanted: &ImageRequest) -> Result<Image, BuildError> {
    let asked = run.request()?;
    let mut found = ImageTable::new();
    let line = format!("[internal] load metadata for {}", wanted.name);
    run.progress.during(&line, |_| {
        kiln::resolve_images(&run.engine, &asked, vec![wanted.clone()], &mut found)
    })?;
    let found = found.remove(wanted);
    let found = found.ok_or_else(|| Status::not_found(wanted.name.clone()))?;
    let config = serde_json::to_vec(&found.config);
    let config = config.map_err(|error| Status::internal(error.to_string()))?;
    Ok(Image {
        name: found.source.name,
        digest: found.source.manifest,
        config,
    })
}

fn prepare(
    run: &Run<'_>,
    opened: &Opened,
    request: &DockerfileRequest,
) -> Result<Prepared, BuildError> {
    let file = run.client.attributes.file_name();
    let located = |at: kiln::Located| BuildError::of(at.0, at.1, file);
    let prepared = opened.prepare(&run.engine, request);
    let prepared = prepared.map_err(|at| {
        if let Error::Dockerfile(error) = &at.0 {
            run.progress.warn(&error.warnings, file, at.1.main());
        }
        located(at)
    })?;
    let warnings = &prepared.compiled.warnings;
    run.progress.warn(warnings, file, prepared.texts.main());
    question::refuse_warnings(&prepared)?;
    Ok(prepared)
}
