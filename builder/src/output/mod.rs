//! Where results go: files, directories, registries, the Docker daemon, names in the store.

mod attestation;
mod delta;
mod filesystem;
mod form;
mod job;
mod place;
mod spec;

use std::path::Path;

use kiln_engine::{
    Cancel, Event, EventSink, Image, ImageOptions, OutputEntry, Solved, left_out_warning,
    missing_program, write_directory,
};
use kiln_graph::{BlobDigest, Target};
use kiln_image::{Client, Reference};
use kiln_tree::Progress;

pub use attestation::Attester;
pub use delta::{BadDeltaFrom, DeltaFrom, DeltaOptions, DeltaSources, not_worth};
pub use form::Form;
use job::{Job, tag};
use place::fail;
pub use place::{check_directory, check_file, write_file};
pub use spec::Output;

use crate::Error;
use crate::attest::Attested;

/// What was made, and where it is now.
#[derive(Debug, Default)]
pub struct Written {
    /// One for each platform; none when only files were asked for.
    pub images: Vec<Image>,
    /// Names in kiln's store.
    pub stored: Vec<Reference>,
    /// Names that were pushed.
    pub pushed: Vec<Reference>,
    /// Whether the Docker daemon has it.
    pub loaded: bool,
    /// What the Docker daemon calls it.
    pub daemon_id: Option<BlobDigest>,
    /// Files and directories that were written.
    pub files: Vec<String>,
    /// The attestations of the last output that has any, one for each target.
    attested: Vec<Attested>,
}

impl Written {
    /// Where the images come from, under the names that buildx has for it in its metadata.
    pub fn provenance(&self, solved: &Solved) -> Vec<(String, serde_json::Value)> {
        let targets = &solved.build().targets;
        let name = |target: &Target| match targets.len() {
            1 => "buildx.build.provenance".to_owned(),
            _ => format!("buildx.build.provenance/{}", target.platform),
        };
        let pairs = targets.iter().zip(&self.attested);
        pairs
            .filter_map(|(target, attested)| Some((name(target), attested.provenance()?.clone())))
            .collect()
    }
}

/// Whether everything that is pushed has a name.
///
/// # Errors
/// When something has none.
pub fn check_names(outputs: &[Output], tags: &[Reference]) -> Result<(), Error> {
    let is_nameless = |output: &Output| output.pushes() && output.names().is_empty();
    match tags.is_empty() && outputs.iter().any(is_nameless) {
        true => Err(Error::NoName),
        false => Ok(()),
    }
}

/// What is to be made of a solved build.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Where it goes.
    pub outputs: &'a [Output],
    /// The names of the images.
    pub tags: &'a [Reference],
    /// How images are made.
    pub options: &'a ImageOptions,
    /// Makes the attestations that are wanted.
    pub attester: Attester<'a>,
    /// Whether the image's digests are wanted, whatever else is.
    pub digests: bool,
    /// Stops the writing.
    pub cancel: &'a Cancel,
}

/// Whether outputs can be written, as far as can be known before the build.
///
/// # Errors
/// When one can't.
pub fn check(outputs: &[Output]) -> Result<(), Error> {
    for output in outputs {
        match (&output.dest, output.form) {
            (Some(dest), Form::Local) => check_directory("-o", dest)?,
            (Some(dest), Form::Oci) if output.as_directory => check_directory("-o", dest)?,
            (Some(dest), form) if form.is_file() => check_file("-o", dest)?,
            _ => {}
        }
        if let Some(missing) = missing_program(output.form.programs()) {
            let name = output.form.name();
            return Err(Error::Usage(format!("-o type={name}: {missing}")));
        }
    }
    Ok(())
}

/// Lets the registries of outputs that say `registry.insecure` be spoken to without checks.
pub fn allow_insecure(client: &Client, outputs: &[Output], tags: &[Reference]) {
    for output in outputs.iter().filter(|output| output.insecure) {
        for name in tags.iter().chain(&output.names) {
            client.allow_insecure(&name.host);
        }
    }
}

/// Makes the images that are wanted and writes every output.
///
/// # Errors
/// When one can't be made or written.
pub fn write(
    solved: &Solved,
    wanted: &Wanted<'_>,
    events: &dyn EventSink,
) -> Result<Written, Error> {
    let mut written = Written::default();
    allow_insecure(solved.client(), wanted.outputs, wanted.tags);
    for output in wanted.outputs {
        let mut own = output.options(wanted.options);
        let attest = wanted.attester.options;
        if own.docker_types && output.takes(attest) && output.has_index(attest) {
            // As BuildKit does: Docker's lists know no attestations.
            let message = "the image has OCI's media types, for its attestations are beside it";
            events.event(Event::Warning {
                message: message.to_owned(),
            });
            own.docker_types = false;
        }
        if output.wants_image() {
            written.images = make(solved, &own, events)?;
        }
        let job = Job {
            solved,
            output,
            tags: wanted.tags,
            options: &own,
            attester: wanted.attester,
            events,
            cancel: wanted.cancel,
        };
        job.attest(&mut written)?;
        job.run(&mut written)?;
    }
    let keeps_none = |output: &Output| {
        output.by_digest || matches!(output.form, Form::Registry | Form::CacheOnly)
    };
    let is_kept = wanted.outputs.is_empty() || !wanted.outputs.iter().all(keeps_none);
    if written.images.is_empty() && (wanted.digests || !wanted.tags.is_empty()) {
        written.images = make(solved, wanted.options, events)?;
    }
    if is_kept {
        tag(solved, wanted.tags, &mut written, events)?;
    }
    Ok(written)
}

/// Gives the files of each target to `deliver`, as an output of directories has them: with those of the
/// attestations that it takes, and those of several platforms below a directory's name each.
///
/// # Errors
/// When they can't be had, and what `deliver` says.
pub fn deliver_files(
    solved: &Solved,
    output: &Output,
    wanted: &Wanted<'_>,
    events: &dyn EventSink,
    deliver: impl FnOnce(&Files) -> Result<(), Error>,
) -> Result<(), Error> {
    let job = Job {
        solved,
        output,
        tags: wanted.tags,
        options: wanted.options,
        attester: wanted.attester,
        events,
        cancel: wanted.cancel,
    };
    let mut written = Written::default();
    job.attest(&mut written)?;
    job.with_files(&written, deliver)
}

fn make(
    solved: &Solved,
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<Vec<Image>, Error> {
    let targets = &solved.build().targets;
    let images = targets
        .iter()
        .map(|target| solved.image(target, options, events));
    Ok(images.collect::<Result<_, _>>()?)
}

/// Writes files into a directory, and warns of what can't be there.
///
/// # Errors
/// When a file can't be read or written, and what `progress` says.
pub fn to_directory(
    files: &[OutputEntry],
    directory: &Path,
    progress: Progress<'_>,
    events: &dyn EventSink,
) -> Result<(), Error> {
    let left_out =
        write_directory(files, directory, progress).map_err(|source| fail(directory, source))?;
    if let Some(message) = left_out_warning(&left_out, directory) {
        events.event(Event::Warning { message });
    }
    Ok(())
}

/// The files of each target, and the directory that they are below, where there are several.
pub type Files = Vec<(Option<String>, Vec<OutputEntry>)>;
