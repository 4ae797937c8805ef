//! Where results go: `-o`, `--push`, `--load` and `-t`.

mod place;
mod spec;

use std::path::Path;

use kiln_engine::{
    EventSink, Image, ImageOptions, Meter, OutputEntry, Solved, left_out_warning, write_folder,
    write_root_tar,
};
use kiln_graph::{Node, Platform, Timestamp};
use kiln_image::{Reference, load_into_daemon, write_docker_archive, write_oci_archive};
use kiln_tree::Progress;

use super::{say, signals};
use kiln::Error;
pub(crate) use place::{check_directory, check_file};
use place::{fail, write_file};
pub(crate) use spec::{Form, OutputSpec};

/// What was made, and where it is now.
#[derive(Default)]
pub(crate) struct Written {
    /// One for each platform; none when only files were asked for.
    pub(crate) images: Vec<Image>,
    /// Names in kiln's store.
    pub(crate) stored: Vec<Reference>,
    /// Names that were pushed.
    pub(crate) pushed: Vec<Reference>,
    /// Whether the Docker daemon has it.
    pub(crate) loaded: bool,
    /// Files and directories that were written.
    pub(crate) files: Vec<String>,
}

/// What is to be made of a solved build.
pub(crate) struct Wanted<'a> {
    pub(crate) outputs: &'a [OutputSpec],
    pub(crate) tags: &'a [Reference],
    pub(crate) options: &'a ImageOptions,
    /// Whether the image's digests are wanted, whatever else is.
    pub(crate) digests: bool,
}

/// Whether outputs can be written, as far as can be known before the build.
///
/// # Errors
/// When one can't.
pub(crate) fn check(outputs: &[OutputSpec]) -> Result<(), Error> {
    for output in outputs {
        match (&output.dest, output.form) {
            (Some(dest), Form::Local) => check_directory("-o", dest)?,
            (Some(dest), Form::Oci) if output.as_directory => check_directory("-o", dest)?,
            (Some(dest), Form::Oci | Form::Docker | Form::Tar) => check_file("-o", dest)?,
            _ => {}
        }
    }
    Ok(())
}

/// Makes the images that are wanted and writes every output.
///
/// # Errors
/// When one can't be made or written.
pub(crate) fn write(
    solved: &Solved,
    wanted: &Wanted<'_>,
    events: &dyn EventSink,
) -> Result<Written, Error> {
    let mut written = Written::default();
    for output in wanted.outputs {
        let own = output.options(wanted.options);
        if output.wants_image() {
            written.images = make(solved, &own, events)?;
        }
        let job = Job {
            solved,
            output,
            tags: wanted.tags,
            options: &own,
            events,
        };
        job.run(&mut written)?;
    }
    let only_pushed = |output: &OutputSpec| output.form == Form::Registry;
    let is_kept = wanted.outputs.is_empty() || !wanted.outputs.iter().all(only_pushed);
    if written.images.is_empty() && (wanted.digests || !wanted.tags.is_empty()) {
        written.images = make(solved, wanted.options, events)?;
    }
    if is_kept {
        tag(solved, wanted.tags, &mut written)?;
    }
    Ok(written)
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
    output: &'a OutputSpec,
    tags: &'a [Reference],
    options: &'a ImageOptions,
    events: &'a dyn EventSink,
}

impl Job<'_> {
    fn run(&self, written: &mut Written) -> Result<(), Error> {
        let dest = self.output.dest.as_deref().unwrap_or(Path::new("-"));
        let names = self.names();
        match self.output.form {
            Form::Oci | Form::Docker => self.archive(dest, &written.images)?,
            Form::Daemon => {
                self.load(&written.images)?;
                written.loaded = true;
            }
            Form::Tar => {
                let files = self.all_files()?;
                let meter = self.meter("write", dest, size_of(&files));
                write_file(dest, &meter, |out| {
                    write_tars(&files, self.options.latest(), out)
                })?;
            }
            Form::Local => {
                let all = self.all_files()?;
                let meter = self.meter("write", dest, size_of(&all));
                for (platform, files) in all {
                    let folder = platform.map_or_else(|| dest.to_owned(), |name| dest.join(name));
                    to_folder(&files, &folder, &|bytes| meter.advance(bytes))?;
                }
            }
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
        Meter::new(self.events, name, Some(total)).until(|| signals::status().is_some())
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
        let folder = self.solved.scratch_folder()?;
        let path = folder.join("image.tar");
        let meter = Meter::new(self.events, "load into Docker", Some(archive.size()));
        let quiet = Meter::new(&|_| {}, "", None).until(|| signals::status().is_some());
        let loaded =
            write_file(&path, &quiet, |out| write_docker_archive(&archive, out)).and_then(|()| {
                let sent = |bytes| meter.set(bytes);
                Ok(load_into_daemon(self.solved.client(), &path, &sent)?)
            });
        _ = std::fs::remove_dir_all(folder);
        loaded
    }

    fn push(&self, names: &[Reference], written: &mut Written) -> Result<(), Error> {
        if names.is_empty() {
            return Err(no_name());
        }
        for name in names {
            let mut name = name.clone();
            if self.output.by_digest {
                name.tag = None;
            }
            self.solved.push(&written.images, &name, self.events)?;
            written.pushed.push(name);
        }
        Ok(())
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

/// Writes files into a folder, and says what could not be written.
///
/// # Errors
/// When a file can't be read or written, and what `progress` says.
pub(crate) fn to_folder(
    files: &[OutputEntry],
    folder: &Path,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let left_out = write_folder(files, folder, progress).map_err(|source| fail(folder, source))?;
    if let Some(text) = left_out_warning(&left_out, folder) {
        say(&format!("WARNING: {text}"));
    }
    Ok(())
}

/// The bytes of files.
fn size_of(files: &Files) -> u64 {
    let entries = files.iter().flat_map(|(_, files)| files);
    let sizes = entries.map(|(entry, _)| match entry.node {
        Node::File { size, .. } => size,
        _ => 0,
    });
    sizes.sum()
}

pub(crate) fn no_name() -> Error {
    Error::Usage("a push needs a name: give -t NAME".to_owned())
}

type Files = Vec<(Option<String>, Vec<OutputEntry>)>;

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
