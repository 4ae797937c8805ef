//! Exporters: where a build's result goes, and what clients are told of it.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use kiln::output::{self, Attester, Form, Output, Wanted};
use kiln::{AttestOptions, BuildOutcome, Error};
use kiln_engine::{Cancel, with_prefix};
use tokio::runtime::Handle;
use tonic::Status;

use super::Built;
use crate::error::BuildError;
use crate::progress::Progress;
use crate::proto::control::Exporter;
use crate::session::{Session, send_files, send_tar};

/// What is exported, and for whom.
pub(crate) struct Export<'a> {
    pub(crate) runtime: &'a Handle,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) built: &'a Built,
    pub(crate) exporters: &'a [Exporter],
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) cancel: &'a Cancel,
}

/// What clients are told under BuildKit's names.
type Response = HashMap<String, String>;

/// Exports a result; blocks.
pub(crate) fn export(job: &Export<'_>) -> Result<Response, BuildError> {
    let mut response = Response::new();
    let client = job.built.solved.client().clone();
    let _close = job.cancel.on_cancel(move || client.close());
    for (index, exporter) in job.exporters.iter().enumerate() {
        let line = match exporter.r#type.as_str() {
            "image" => "exporting to image",
            "oci" => "exporting to oci image format",
            "docker" => "exporting to docker image format",
            "local" => "exporting to client directory",
            _ => "exporting to client tarball",
        };
        let done = job.progress.during(line, |_| job.one(index, exporter));
        response.extend(done?);
    }
    Ok(response)
}

impl Export<'_> {
    fn one(&self, index: usize, exporter: &Exporter) -> Result<Response, BuildError> {
        match exporter.r#type.as_str() {
            "local" => self.local(index, exporter).map(|()| Response::new()),
            "image" => {
                let output = self.output(exporter, None)?;
                let outcome = self.write(output)?;
                Ok(told(&outcome, exporter))
            }
            _ => self.archive(index, exporter),
        }
    }

    fn output(&self, exporter: &Exporter, dest: Option<PathBuf>) -> Result<Output, BuildError> {
        let attributes = exporter.attrs.clone();
        let output = Output::of_exporter(&exporter.r#type, attributes, dest);
        Ok(output.map_err(|reason| {
            Status::invalid_argument(format!("exporter {}: {reason}", exporter.r#type))
        })?)
    }

    fn failed(&self, error: impl Into<Error>) -> BuildError {
        BuildError::of(error.into(), self.built.texts.clone(), &self.built.file)
    }

    /// Writes one output.
    fn write(&self, output: Output) -> Result<BuildOutcome, BuildError> {
        if output.pushes() && output.names().is_empty() {
            return Err(Status::unknown("a push needs a name: give -t NAME").into());
        }
        let wants_digests = !matches!(output.form(), Form::Tar | Form::Local);
        let outputs = [output];
        let wanted = Wanted {
            outputs: &outputs,
            tags: &[],
            options: &self.built.options,
            attester: Attester {
                options: &AttestOptions::default(),
                facts: &Default::default(),
            },
            digests: wants_digests,
            cancel: self.cancel,
        };
        let solved = &self.built.solved;
        let written = output::write(solved, &wanted, &**self.progress);
        let written = written.map_err(|error| self.failed(error))?;
        BuildOutcome::of(solved, &written).map_err(|error| self.failed(error))
    }

    /// Sends an archive to the client, as it is made.
    fn archive(&self, index: usize, exporter: &Exporter) -> Result<Response, BuildError> {
        let several = self.built.solved.build().targets.len() > 1;
        if exporter.r#type == "docker" && several {
            let text = "docker exporter does not currently support exporting manifest lists";
            return Err(Status::unknown(text).into());
        }
        if exporter.attrs.get("tar").is_some_and(|tar| tar == "false") {
            let text = "exporting a layout without a tar is not supported by kiln";
            return Err(Status::unimplemented(text).into());
        }
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (reader, writer) = pipe.map_err(|error| BuildError::Host {
            what: "cannot make a pipe",
            source: error.into(),
        })?;
        let dest = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let output = self.output(exporter, Some(dest.into()))?;
        let session = self.session.clone();
        let reader = std::fs::File::from(reader);
        let sending = self
            .runtime
            .spawn(async move { send_tar(&session, index, reader).await });
        let stopper = sending.abort_handle();
        let _stop = self.cancel.on_cancel(move || stopper.abort());
        let written = self.write(output);
        if let Err(error) = written {
            // The client must not take what was sent for all of it. When it is the client that
            // failed, its own words are the better ones.
            sending.abort();
            return Err(match self.runtime.block_on(sending) {
                Ok(Err(status)) => status.into(),
                _ => error,
            });
        }
        drop(writer);
        match self.runtime.block_on(sending) {
            Ok(sent) => sent?,
            Err(_) => return Err(Status::cancelled("context canceled").into()),
        }
        Ok(match exporter.r#type.as_str() {
            "tar" => Response::new(),
            _ => told(&written?, exporter),
        })
    }

    /// Sends the files of each target into the client's directory.
    fn local(&self, index: usize, exporter: &Exporter) -> Result<(), BuildError> {
        if exporter
            .attrs
            .get("mode")
            .is_some_and(|mode| mode == "delete")
        {
            let text = "the local exporter's mode=delete is not supported by kiln";
            return Err(Status::unimplemented(text).into());
        }
        let targets = &self.built.solved.build().targets;
        let split = exporter.attrs.get("platform-split");
        let split = split.map_or(targets.len() > 1, |split| split != "false");
        for target in targets {
            let files = self.built.solved.root_files(target, &**self.progress);
            let mut files = files.map_err(|error| self.failed(error))?;
            if split {
                let directory = target.platform.to_string().replace('/', "_");
                files = with_prefix(&files, &directory);
            }
            let session = self.session.clone();
            let sending = self
                .runtime
                .spawn(async move { send_files(&session, index, files).await });
            let stopper = sending.abort_handle();
            let _stop = self.cancel.on_cancel(move || stopper.abort());
            match self.runtime.block_on(sending) {
                Ok(sent) => sent?,
                Err(_) => return Err(Status::cancelled("context canceled").into()),
            }
        }
        Ok(())
    }
}

/// What clients are told of an image.
fn told(outcome: &BuildOutcome, exporter: &Exporter) -> Response {
    let mut response = Response::new();
    let mut tell = |key: &str, value: String| _ = response.insert(key.to_owned(), value);
    if let Some(digest) = outcome.digest {
        tell("containerimage.digest", digest.to_string());
    }
    // Of an index there is none.
    if let Some(id) = outcome.id.filter(|_| outcome.platforms.len() < 2) {
        tell("containerimage.config.digest", id.to_string());
    }
    if let Some(descriptor) = &outcome.descriptor
        && let Ok(json) = serde_json::to_vec(descriptor)
    {
        let text = base64::engine::general_purpose::STANDARD.encode(json);
        tell("containerimage.descriptor", text);
    }
    if let Some(name) = exporter.attrs.get("name").filter(|name| !name.is_empty()) {
        tell("image.name", name.clone());
    }
    response
}
