//! Exporters: where a build's result goes, and what clients are told of it.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use kiln::output::{self, Attester, Form, Output, Wanted};
use kiln::{BuildOutcome, Error};
use kiln_engine::{Cancel, ImageOptions, OutputEntry, with_prefix};
use kiln_graph::ImageConfig;
use kiln_image::Reference;
use tokio::runtime::Handle;
use tonic::Status;

use super::attributes::flag;
use super::client_directory::{deletes, merged};
use super::{Built, Scratch, attest, image_config, layout};
use crate::error::BuildError;
use crate::progress::Progress;
use crate::proto::control::Exporter;
use crate::session::{ClientStore, Session, send_files, send_tar};

/// What is exported, and for whom.
pub(crate) struct Export<'a> {
    pub(crate) runtime: &'a Handle,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) built: &'a Built,
    /// The configuration of its image, when the client says it.
    pub(crate) config: Option<ImageConfig>,
    /// `SOURCE_DATE_EPOCH` of the client's build, whatever its frontend did with it.
    pub(crate) epoch: Option<i64>,
    pub(crate) exporters: &'a [Exporter],
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) cancel: &'a Cancel,
}

/// The attribute of an exporter that is an image's configuration.
const CONFIGURATION: &str = "containerimage.config";

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
                let pushes = output.pushes();
                let outcome = self.write(output, exporter)?;
                let response = told(&outcome, exporter);
                if pushes {
                    self.show_push(&response);
                }
                Ok(response)
            }
            _ => self.archive(index, exporter),
        }
    }

    fn output(&self, exporter: &Exporter, dest: Option<PathBuf>) -> Result<Output, BuildError> {
        let mut attributes = exporter.attrs.clone();
        attributes.remove(CONFIGURATION);
        if epoch_of(exporter)? == Epoch::None {
            attributes.insert("rewrite-timestamp".to_owned(), "false".to_owned());
        }
        let output = Output::of_exporter(kind_of(exporter)?, attributes, dest);
        Ok(output.map_err(|reason| {
            Status::invalid_argument(format!("exporter {}: {reason}", exporter.r#type))
        })?)
    }

    /// What BuildKit's displays say of a push.
    fn show_push(&self, response: &Response) {
        self.progress.did("pushing layers");
        let digest = response.get("containerimage.digest");
        let names = response.get("image.name").into_iter();
        for name in names.flat_map(|names| names.split(',')) {
            let digest = digest.map_or("", String::as_str);
            self.progress
                .did(&format!("pushing manifest for {name}@{digest}"));
        }
    }

    fn failed(&self, error: impl Into<Error>) -> BuildError {
        BuildError::of(error.into(), self.built.texts.clone(), &self.built.file)
    }

    /// How what an exporter makes is made. An image's configuration may come with the exporter.
    fn options(&self, exporter: &Exporter) -> Result<ImageOptions, BuildError> {
        let config = match exporter.attrs.get(CONFIGURATION) {
            Some(json) => Some(image_config(json.as_bytes())?),
            None => self.config.clone(),
        };
        let own = self.built.options.clone();
        let epoch = match epoch_of(exporter)? {
            Epoch::OfBuild => own.epoch.or(self.epoch),
            Epoch::None => own.epoch,
            Epoch::At(seconds) => Some(seconds),
        };
        // Files that are no layers have no times of their own to keep.
        let is_plain = matches!(exporter.r#type.as_str(), "local" | "tar");
        Ok(ImageOptions {
            config: config.map(Box::new),
            epoch,
            keep_late_times: own.keep_late_times && !(is_plain && epoch.is_some()),
            ..own
        })
    }

    /// Writes one output.
    fn write(&self, output: Output, exporter: &Exporter) -> Result<BuildOutcome, BuildError> {
        if output.pushes() && output.names().is_empty() {
            return Err(Status::unknown("a push needs a name: give -t NAME").into());
        }
        let wants_digests = !matches!(output.form(), Form::Tar | Form::Local);
        let outputs = [output];
        let options = self.options(exporter)?;
        let attest = attest::of_exporter(&self.built.attest, exporter)?;
        let wanted = Wanted {
            outputs: &outputs,
            tags: &[],
            options: &options,
            attester: Attester {
                options: &attest,
                facts: &self.built.facts,
            },
            digests: wants_digests,
            cancel: self.cancel,
        };
        let solved = &self.built.solved;
        let written = output::write(solved, &wanted, &*self.built.journal);
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
        if flag(&exporter.attrs, "tar")? == Some(false) {
            return self.layout(exporter);
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
        let written = self.write(output, exporter);
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

    /// Sends the blobs of a layout that isn't tarred.
    fn layout(&self, exporter: &Exporter) -> Result<Response, BuildError> {
        let mut as_oci = exporter.clone();
        if exporter.r#type == "docker" {
            let types = as_oci.attrs.entry("oci-mediatypes".to_owned());
            _ = types.or_insert_with(|| "false".to_owned());
            "oci".clone_into(&mut as_oci.r#type);
        }
        let scratch = self.built.solved.scratch_directory();
        let scratch = Scratch(scratch.map_err(|error| self.failed(error))?);
        let output = self.output(&as_oci, Some(scratch.0.clone()))?;
        let outcome = self.write(output, &as_oci)?;
        let (runtime, session) = (self.runtime.clone(), self.session.clone());
        let store = ClientStore::new(runtime, session, "export".to_owned());
        layout::send(&store, &scratch.0)?;
        Ok(told(&outcome, exporter))
    }

    /// Sends the files of each target into the client's directory.
    fn local(&self, index: usize, exporter: &Exporter) -> Result<(), BuildError> {
        let deletes = deletes(exporter)?;
        let output = self.output(exporter, Some(".".into()))?;
        let attest = attest::of_exporter(&self.built.attest, exporter)?;
        let attester = Attester {
            options: &attest,
            facts: &self.built.facts,
        };
        let options = self.options(exporter)?;
        let latest = options.latest();
        let mut sent = Ok(());
        let (solved, events) = (&self.built.solved, &*self.built.journal);
        let wanted = Wanted {
            outputs: std::slice::from_ref(&output),
            tags: &[],
            options: &options,
            attester,
            digests: false,
            cancel: self.cancel,
        };
        // The files of attestations are there until this returns.
        let delivered = output::deliver_files(solved, &output, &wanted, events, |all| {
            let all = all.iter().map(|(directory, files)| {
                let mut files = match directory {
                    Some(directory) => with_prefix(files, directory),
                    None => files.clone(),
                };
                for (entry, _) in &mut files {
                    entry.mtime = latest.map_or(entry.mtime, |latest| entry.mtime.min(latest));
                }
                files
            });
            sent = match deletes {
                true => merged(all).and_then(|files| self.send(index, files, true)),
                false => all
                    .into_iter()
                    .try_for_each(|files| self.send(index, files, false)),
            };
            Ok(())
        });
        delivered.map_err(|error| self.failed(error))?;
        sent
    }

    fn send(&self, index: usize, files: Vec<OutputEntry>, is_all: bool) -> Result<(), BuildError> {
        let session = self.session.clone();
        let sending = self
            .runtime
            .spawn(async move { send_files(&session, index, files, is_all).await });
        let stopper = sending.abort_handle();
        let _stop = self.cancel.on_cancel(move || stopper.abort());
        match self.runtime.block_on(sending) {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Status::cancelled("context canceled").into()),
        }
    }
}

/// What kind of output an exporter is. What is pushed has no name in the store, unless the client asks for one:
/// it would stay for ever, for clients can't remove names.
fn kind_of(exporter: &Exporter) -> Result<&str, Status> {
    let is = |key: &str| flag(&exporter.attrs, key).map(|said| said == Some(true));
    Ok(match exporter.r#type.as_str() {
        "image" if is("push")? && !is("store")? => "registry",
        kind => kind,
    })
}

/// The time that an exporter is told by itself.
#[derive(Debug, PartialEq, Eq)]
enum Epoch {
    /// The build's.
    OfBuild,
    /// None, whatever the build has.
    None,
    /// In seconds since 1970.
    At(i64),
}

fn epoch_of(exporter: &Exporter) -> Result<Epoch, Status> {
    let told = exporter.attrs.get("source-date-epoch");
    match told.map(|text| text.trim()) {
        None => Ok(Epoch::OfBuild),
        Some("") => Ok(Epoch::None),
        Some(text) => text.parse().map(Epoch::At).map_err(|_| {
            Status::invalid_argument(format!(
                "exporter {}: invalid source-date-epoch {text:?}: give whole seconds since 1970",
                exporter.r#type
            ))
        }),
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
    let descriptor = outcome.descriptor.as_ref();
    let is_index = descriptor.is_some_and(|top| {
        top.media_type.contains("index") || top.media_type.contains("manifest.list")
    });
    if let Some(id) = outcome.id.filter(|_| !is_index) {
        tell("containerimage.config.digest", id.to_string());
    }
    if let Some(descriptor) = &outcome.descriptor
        && let Ok(json) = serde_json::to_vec(descriptor)
    {
        let text = base64::engine::general_purpose::STANDARD.encode(json);
        tell("containerimage.descriptor", text);
    }
    if let Some(name) = exporter.attrs.get("name").filter(|name| !name.is_empty()) {
        let whole = match exporter.r#type.as_str() {
            "image" => name.clone(),
            _ => whole_names(name),
        };
        tell("image.name", whole);
    }
    response
}

/// Names with their registries and tags, as BuildKit tells those of archives.
fn whole_names(names: &str) -> String {
    let whole = |name: &str| match name.parse::<Reference>() {
        Ok(reference) => reference.to_string(),
        Err(_) => name.to_owned(),
    };
    names.split(',').map(whole).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_are_told_times_of_their_own() {
        let epoch = |pairs: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            epoch_of(&Exporter {
                r#type: "oci".to_owned(),
                attrs: pairs.iter().map(owned).collect(),
            })
        };
        assert_eq!(epoch(&[]).unwrap(), Epoch::OfBuild);
        assert_eq!(epoch(&[("source-date-epoch", "")]).unwrap(), Epoch::None);
        assert_eq!(epoch(&[("source-date-epoch", "7")]).unwrap(), Epoch::At(7));
        assert!(epoch(&[("source-date-epoch", "today")]).is_err());
    }

    #[test]
    fn archives_have_whole_names() {
        let whole = "docker.io/library/a:latest,x.example/b:1";
        assert_eq!(whole_names("a,x.example/b:1"), whole);
    }
}
