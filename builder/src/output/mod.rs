//! Where results go: files, directories, registries, the Docker daemon, names in the store.

mod attestation;
mod delta;
mod filesystem;
mod form;
mod place;
mod spec;

use std::path::Path;

use kiln_engine::{
    Cancel, Event, EventSink, Image, ImageOptions, Meter, OutputEntry, Solved, left_out_warning,
    missing_program, write_directory, write_root_tar,
};
use kiln_graph::{Platform, Target, Timestamp};
use kiln_image::{Client, Reference, load_into_daemon, write_docker_archive, write_oci_archive};
use kiln_tree::Progress;

pub use attestation::Attester;
use attestation::{Outgoing, Place, sbom};
pub use delta::{BadDeltaFrom, DeltaFrom, DeltaOptions, DeltaSources, not_worth};
pub use form::Form;
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
    let only_pushed = |output: &Output| output.form == Form::Registry;
    let is_kept = wanted.outputs.is_empty() || !wanted.outputs.iter().all(only_pushed);
    if written.images.is_empty() && (wanted.digests || !wanted.tags.is_empty()) {
        written.images = make(solved, wanted.options, events)?;
    }
    if is_kept {
        tag(solved, wanted.tags, &mut written)?;
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

/// Names the images in the store.
fn tag(solved: &Solved, names: &[Reference], written: &mut Written) -> Result<(), Error> {
    for name in names {
        solved.tag(&written.images, &name.to_string())?;
        if !written.stored.contains(name) {
            written.stored.push(name.clone());
        }
    }
    Ok(())
}

/// One output of a build.
struct Job<'a> {
    solved: &'a Solved,
    output: &'a Output,
    tags: &'a [Reference],
    options: &'a ImageOptions,
    attester: Attester<'a>,
    events: &'a dyn EventSink,
    cancel: &'a Cancel,
}

impl Job<'_> {
    /// Makes the attestations that the output takes, and puts them beside the images of one that
    /// has an index.
    fn attest(&self, written: &mut Written) -> Result<(), Error> {
        let wanted = self.attester.options;
        if !self.output.takes(wanted) {
            return Ok(());
        }
        let names = self.names();
        let out = self.outgoing(&names);
        let is_image = self.output.wants_image();
        let images = if is_image { &written.images[..] } else { &[] };
        let attested = self.attester.about(&out, images)?;
        if is_image && self.output.has_index(wanted) {
            let images = &mut written.images;
            self.attester.put_beside(self.solved, images, &attested)?;
        }
        written.attested = attested;
        Ok(())
    }

    fn outgoing<'a>(&'a self, names: &'a [Reference]) -> Outgoing<'a> {
        Outgoing {
            solved: self.solved,
            options: self.options,
            names,
            events: self.events,
        }
    }

    fn run(&self, written: &mut Written) -> Result<(), Error> {
        let dest = self.output.dest.as_deref().unwrap_or(Path::new("-"));
        let names = self.names();
        match self.output.form {
            Form::Oci | Form::Docker => self.archive(dest, &written.images)?,
            Form::Daemon => {
                self.load(&written.images)?;
                written.loaded = true;
            }
            Form::Tar => self.with_files(written, |files| {
                let meter = self.meter("write", dest, size_of(files));
                let latest = self.options.latest();
                write_file(dest, &meter, |out| write_tars(files, latest, out))
            })?,
            Form::Erofs | Form::Squashfs | Form::Ext4 | Form::Cpio => self.file_system(dest)?,
            Form::Local => self.with_files(written, |files| {
                let meter = self.meter("write", dest, size_of(files));
                write_directories(files, dest, &|bytes| meter.advance(bytes), self.events)
            })?,
            Form::Sbom => self.sbom(dest, &names)?,
            Form::Image => tag(self.solved, &self.output.names, written)?,
            Form::Registry | Form::CacheOnly => {}
        }
        if self.output.dest.is_some() {
            written.files.push(dest.display().to_string());
        }
        if self.output.push {
            self.push(&names, written)?;
        }
        Ok(())
    }

    /// The names of this output: the build's, and its own.
    fn names(&self) -> Vec<Reference> {
        let all = self.tags.iter().chain(&self.output.names);
        all.cloned().collect()
    }

    fn texts(&self) -> Vec<String> {
        self.names().iter().map(Reference::to_string).collect()
    }

    /// Tells of what is written.
    fn meter(&self, verb: &str, what: &Path, total: u64) -> Meter<'_> {
        let name = format!("{verb} {}", what.display());
        Meter::new(self.events, name, Some(total)).until(|| self.cancel.is_cancelled())
    }

    fn archive(&self, dest: &Path, images: &[Image]) -> Result<(), Error> {
        let archive = self.solved.archive(images, &self.texts(), self.events)?;
        let meter = self.meter("write", dest, archive.size());
        match self.output.form {
            Form::Oci if self.output.as_directory => {
                let progress = |bytes| meter.advance(bytes);
                let written = kiln_image::write_oci_directory(&archive, dest, &progress);
                written.map_err(|source| fail(dest, source))
            }
            Form::Oci => write_file(dest, &meter, |out| write_oci_archive(&archive, out)),
            _ => write_file(dest, &meter, |out| write_docker_archive(&archive, out)),
        }
    }

    fn load(&self, images: &[Image]) -> Result<(), Error> {
        let archive = self.solved.archive(images, &self.texts(), self.events)?;
        let directory = self.solved.scratch_directory()?;
        let path = directory.join("image.tar");
        let meter = Meter::new(self.events, "load into Docker", Some(archive.size()));
        let quiet = Meter::new(&|_| {}, "", None).until(|| self.cancel.is_cancelled());
        let loaded =
            write_file(&path, &quiet, |out| write_docker_archive(&archive, out)).and_then(|()| {
                let sent = |bytes| meter.set(bytes);
                Ok(load_into_daemon(self.solved.client(), &path, &sent)?)
            });
        _ = std::fs::remove_dir_all(directory);
        loaded
    }

    fn push(&self, names: &[Reference], written: &mut Written) -> Result<(), Error> {
        if names.is_empty() {
            return Err(Error::NoName);
        }
        for name in names {
            let mut name = name.clone();
            if self.output.by_digest {
                name.tag = None;
            }
            let out = self.outgoing(std::slice::from_ref(&name));
            let attested = match self.output.takes(self.attester.options) {
                true => &written.attested[..],
                false => &[],
            };
            self.attester.push(&out, &written.images, attested)?;
            written.pushed.push(name);
        }
        Ok(())
    }

    fn sbom(&self, dest: &Path, names: &[Reference]) -> Result<(), Error> {
        let format = self.output.format.unwrap_or_default();
        let bytes = sbom(&self.outgoing(names), format)?;
        let meter = self.meter("write", dest, bytes.len() as u64);
        write_file(dest, &meter, |out| out.write_all(&bytes))
    }

    /// Gives the files of each target, with those of its attestations, to `write`.
    fn with_files(
        &self,
        written: &Written,
        write: impl FnOnce(&Files) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut files = self.all_files()?;
        if !self.output.takes(self.attester.options) {
            return write(&files);
        }
        let place = Place {
            prefix: &self.output.attestation_prefix,
            time: self.options.latest(),
        };
        let mut directories = Vec::new();
        for ((_, files), attested) in files.iter_mut().zip(&written.attested) {
            directories.push(place.add(self.solved, files, attested)?);
        }
        let done = write(&files);
        for directory in directories {
            _ = std::fs::remove_dir_all(directory);
        }
        done
    }

    /// The files of each target; of several, each has its platform's name.
    fn all_files(&self) -> Result<Files, Error> {
        let targets = &self.solved.build().targets;
        let name = |platform: &Platform| platform.to_string().replace('/', "_");
        let split = self.output.split.unwrap_or(targets.len() > 1);
        let mut all = Vec::new();
        for target in targets {
            let prefix = split.then(|| name(&target.platform));
            all.push((prefix, self.solved.root_files(target, self.events)?));
        }
        Ok(all)
    }
}

fn write_directories(
    files: &Files,
    dest: &Path,
    progress: Progress<'_>,
    events: &dyn EventSink,
) -> Result<(), Error> {
    for (platform, files) in files {
        let directory = platform
            .as_ref()
            .map_or_else(|| dest.to_owned(), |name| dest.join(name));
        to_directory(files, &directory, progress, events)?;
    }
    Ok(())
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

/// The bytes of files.
fn size_of(files: &Files) -> u64 {
    let entries = files.iter().flat_map(|(_, files)| files);
    entries.map(|(entry, _)| entry.size()).sum()
}

/// The files of each target, and the directory that they are below, where there are several.
pub type Files = Vec<(Option<String>, Vec<OutputEntry>)>;

fn write_tars(
    files: &Files,
    latest: Option<Timestamp>,
    out: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    let mut merged = Vec::new();
    for (prefix, files) in files {
        match prefix {
            Some(prefix) => merged.extend(kiln_engine::with_prefix(files, prefix)),
            None => merged.extend(files.iter().cloned()),
        }
    }
    write_root_tar(&merged, latest, out)
}
