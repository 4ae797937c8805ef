//! `-o`: where results go.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_engine::{
    EngineError, EventSink, Image, ImageOptions, OutputEntry, Solved, left_out_warning,
    write_folder, write_root_tar,
};
use kiln_graph::{Platform, Timestamp};
use kiln_image::layer::Codec;
use kiln_image::{Reference, load_into_daemon, write_docker_archive, write_oci_archive};

use super::say;
use super::writable::{aside, check_directory, check_file};
use kiln::Error;

/// A form of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Oci,
    Docker,
    Tar,
    Local,
    Registry,
    Daemon,
    Store,
}

/// One `-o`.
#[derive(Clone, Debug)]
pub(crate) struct OutputSpec {
    form: Form,
    dest: Option<PathBuf>,
    /// More names for the image.
    names: Vec<Reference>,
    codec: Option<Codec>,
    force_compression: bool,
    /// Whether files get no time later than `SOURCE_DATE_EPOCH`; unless it is said, as the build.
    rewrite_times: Option<bool>,
    push: bool,
}

impl OutputSpec {
    fn of(form: Form) -> Self {
        Self {
            form,
            dest: None,
            names: Vec::new(),
            codec: None,
            force_compression: false,
            rewrite_times: None,
            push: false,
        }
    }

    pub(crate) fn registry() -> Self {
        Self::of(Form::Registry)
    }

    pub(crate) fn daemon() -> Self {
        Self::of(Form::Daemon)
    }

    /// How images for this output are made.
    fn options(&self, build: &ImageOptions) -> ImageOptions {
        let rewrites = self.rewrite_times.unwrap_or(!build.keep_late_times);
        ImageOptions {
            codec: self.codec.unwrap_or(build.codec),
            force_compression: self.force_compression,
            keep_late_times: !rewrites,
            ..build.clone()
        }
    }

    pub(crate) fn wants_image(&self) -> bool {
        !matches!(self.form, Form::Tar | Form::Local)
    }

    /// Finds out whether it can be written, before anything is built.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(dest) = self.dest.as_deref().filter(|dest| *dest != Path::new("-")) else {
            return Ok(());
        };
        let checked = match self.form {
            Form::Oci | Form::Docker | Form::Tar => check_file(dest),
            Form::Local => check_directory(dest),
            Form::Registry | Form::Daemon | Form::Store => Ok(()),
        };
        checked.map_err(|source| fail(dest, source))
    }
}

impl FromStr for OutputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('=') {
            let form = if text == "-" { Form::Tar } else { Form::Local };
            return Ok(Self {
                dest: Some(text.into()),
                ..Self::of(form)
            });
        }
        let mut spec = Self::of(Form::Store);
        let mut has_type = false;
        let (mut compression, mut level) = (None, None);
        for field in text.split(',') {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("-o {text}: '{field}' is no KEY=VALUE"))?;
            match key {
                "type" => (spec.form, has_type) = (form(value)?, true),
                "dest" => spec.dest = Some(value.into()),
                "name" => spec.names.push(name(value)?),
                "push" => spec.push = truth(field, value)?,
                "compression" => compression = Some(value),
                "compression-level" => {
                    let parsed = value.parse();
                    level = Some(parsed.map_err(|_| format!("-o {text}: '{value}' is no level"))?);
                }
                "force-compression" => spec.force_compression = truth(field, value)?,
                "rewrite-timestamp" => spec.rewrite_times = Some(truth(field, value)?),
                "oci-mediatypes" | "registry.insecure" | "tar" => {}
                other => {
                    return Err(format!(
                        "-o {text}: unknown key '{other}': use type, dest, name, push, compression, compression-level or force-compression"
                    ));
                }
            }
        }
        if !has_type {
            return Err(format!(
                "-o {text}: type= is missing: use oci, docker, tar, local, registry or image"
            ));
        }
        if let Some(name) = compression {
            spec.codec =
                Some(Codec::new(name, level).map_err(|error| format!("-o {text}: {error}"))?);
        }
        if matches!(
            spec.form,
            Form::Oci | Form::Docker | Form::Tar | Form::Local
        ) && spec.dest.is_none()
        {
            return Err(format!("-o {text}: dest=PATH is missing"));
        }
        Ok(spec)
    }
}

/// `true` and `false`, as Go reads them.
fn truth(field: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("-o: {field}: write true or false")),
    }
}

/// An image's name to be, which a digest can't be part of.
pub(crate) fn name(text: &str) -> Result<Reference, String> {
    let name: Reference = text
        .parse()
        .map_err(|error: kiln_image::BadReference| error.to_string())?;
    match name.digest {
        Some(_) => Err(format!(
            "{text}: an image's digest comes of its content: leave it out"
        )),
        None => Ok(name),
    }
}

fn form(name: &str) -> Result<Form, String> {
    Ok(match name {
        "oci" => Form::Oci,
        "docker" => Form::Docker,
        "tar" => Form::Tar,
        "local" => Form::Local,
        "registry" => Form::Registry,
        "image" => Form::Store,
        other => {
            return Err(format!(
                "unknown output type '{other}': use oci, docker, tar, local, registry or image"
            ));
        }
    })
}

/// Makes the images that are wanted and writes every output.
pub(crate) fn write(
    solved: &Solved,
    outputs: &[OutputSpec],
    names: &[Reference],
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<Vec<Image>, Error> {
    let mut images = Vec::new();
    for output in outputs {
        let own = output.options(options);
        if output.wants_image() {
            images = make(solved, &own, events)?;
        }
        one(solved, output, names, &images, &own, events)?;
    }
    let registry_only =
        !outputs.is_empty() && outputs.iter().all(|output| output.form == Form::Registry);
    if !names.is_empty() {
        if images.is_empty() {
            images = make(solved, options, events)?;
        }
        for name in names.iter().filter(|_| !registry_only) {
            solved.tag(&images, &name.to_string())?;
        }
    }
    Ok(images)
}

pub(crate) fn make(
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

fn one(
    solved: &Solved,
    output: &OutputSpec,
    names: &[Reference],
    images: &[Image],
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<(), Error> {
    let all: Vec<Reference> = names.iter().chain(&output.names).cloned().collect();
    let texts: Vec<String> = all.iter().map(Reference::to_string).collect();
    let dest = output.dest.as_deref().unwrap_or(Path::new("-"));
    match output.form {
        Form::Oci => {
            let archive = solved.archive(images, &texts, events)?;
            to_file(dest, |out| write_oci_archive(&archive, out))
        }
        Form::Docker => {
            let archive = solved.archive(images, &texts, events)?;
            to_file(dest, |out| write_docker_archive(&archive, out))
        }
        Form::Daemon => load(solved, images, &texts, events),
        Form::Tar => {
            let files = all_files(solved, events)?;
            to_file(dest, |out| write_tars(&files, options.latest(), out))
        }
        Form::Local => {
            for (platform, files) in all_files(solved, events)? {
                let folder = platform.map_or_else(|| dest.to_owned(), |name| dest.join(name));
                to_folder(&files, &folder)?;
            }
            Ok(())
        }
        Form::Registry => push(solved, images, &all, events),
        Form::Store => {
            for name in &all {
                solved.tag(images, &name.to_string())?;
            }
            if output.push {
                push(solved, images, &all, events)
            } else {
                Ok(())
            }
        }
    }
}

fn push(
    solved: &Solved,
    images: &[Image],
    names: &[Reference],
    events: &dyn EventSink,
) -> Result<(), Error> {
    if names.is_empty() {
        return Err(Error::Usage(
            "a registry needs a name: give -t NAME".to_owned(),
        ));
    }
    for name in names {
        solved.push(images, name, events)?;
    }
    Ok(())
}

type Files = Vec<(Option<String>, Vec<OutputEntry>)>;

/// The files of each target; of several, each has its platform's name.
fn all_files(solved: &Solved, events: &dyn EventSink) -> Result<Files, Error> {
    let targets = &solved.build().targets;
    let name = |platform: &Platform| platform.to_string().replace('/', "_");
    let mut all = Vec::new();
    for target in targets {
        let prefix = (targets.len() > 1).then(|| name(&target.platform));
        all.push((prefix, solved.root_files(target, events)?));
    }
    Ok(all)
}

fn write_tars(
    files: &Files,
    latest: Option<Timestamp>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut merged = Vec::new();
    for (prefix, files) in files {
        let Some(prefix) = prefix else {
            return write_root_tar(files, latest, out);
        };
        merged.extend(kiln_engine::with_prefix(files, prefix));
    }
    write_root_tar(&merged, latest, out)
}

fn fail(path: &Path, source: std::io::Error) -> Error {
    EngineError::Output {
        what: path.display().to_string(),
        source,
    }
    .into()
}

/// Writes files into a folder, and says what could not be written.
pub(crate) fn to_folder(files: &[OutputEntry], folder: &Path) -> Result<(), Error> {
    let left_out = write_folder(files, folder).map_err(|source| fail(folder, source))?;
    if let Some(text) = left_out_warning(&left_out, folder) {
        say(&format!("WARNING: {text}"));
    }
    Ok(())
}

/// Writes a file at once: nobody sees half of it.
fn to_file(
    dest: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Error> {
    if dest == Path::new("-") {
        return write(&mut std::io::stdout().lock()).map_err(|source| fail(dest, source));
    }
    let aside = aside(dest);
    let written = File::create(&aside)
        .and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            write(&mut out)?;
            out.flush()
        })
        .and_then(|()| std::fs::rename(&aside, dest));
    written.map_err(|source| {
        _ = std::fs::remove_file(&aside);
        fail(dest, source)
    })
}

fn load(
    solved: &Solved,
    images: &[Image],
    names: &[String],
    events: &dyn EventSink,
) -> Result<(), Error> {
    let archive = solved.archive(images, names, events)?;
    let folder = solved.scratch_folder()?;
    let path = folder.join("image.tar");
    to_file(&path, |out| write_docker_archive(&archive, out))?;
    let loaded = load_into_daemon(solved.client(), &path);
    _ = std::fs::remove_dir_all(folder);
    Ok(loaded?)
}
