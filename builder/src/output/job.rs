//! One output of a build.

use std::path::Path;

use kiln_engine::{Cancel, EventSink, Image, ImageOptions, Meter, Solved, write_root_tar};
use kiln_graph::{BlobDigest, Platform, Timestamp};
use kiln_image::{Reference, daemon_id, load_into_daemon, write_docker_archive, write_oci_archive};
use kiln_tree::Progress;

use super::attestation::{Attester, Outgoing, Place, sbom};
use super::form::Form;
use super::place::{fail, write_file};
use super::{Files, Output, Written, to_directory};
use crate::Error;

/// Names the images in the store.
pub(super) fn tag(
    solved: &Solved,
    names: &[Reference],
    written: &mut Written,
    events: &dyn EventSink,
) -> Result<(), Error> {
    for name in names {
        solved.tag(&written.images, &name.to_string(), events)?;
        if !written.stored.contains(name) {
            written.stored.push(name.clone());
        }
    }
    Ok(())
}

/// One output of a build.
pub(super) struct Job<'a> {
    pub(super) solved: &'a Solved,
    pub(super) output: &'a Output,
    pub(super) tags: &'a [Reference],
    pub(super) options: &'a ImageOptions,
    pub(super) attester: Attester<'a>,
    pub(super) events: &'a dyn EventSink,
    pub(super) cancel: &'a Cancel,
}

impl Job<'_> {
    /// Makes the attestations that the output takes, and puts them beside the images of one that
    /// has an index.
    pub(super) fn attest(&self, written: &mut Written) -> Result<(), Error> {
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

    pub(super) fn run(&self, written: &mut Written) -> Result<(), Error> {
        let dest = self.output.dest.as_deref().unwrap_or(Path::new("-"));
        let names = self.names();
        match self.output.form {
            Form::Oci | Form::Docker => self.archive(dest, &written.images)?,
            Form::Daemon => {
                self.load(&written.images)?;
                written.loaded = true;
                written.daemon_id = self.daemon_id(&written.images)?;
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
            Form::Image if self.output.by_digest => {}
            Form::Image => tag(self.solved, &self.output.names, written, self.events)?,
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
    pub(super) fn meter(&self, verb: &str, what: &Path, total: u64) -> Meter<'_> {
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

    /// What the daemon calls the image that it has now.
    fn daemon_id(&self, images: &[Image]) -> Result<Option<BlobDigest>, Error> {
        let Some(first) = images.first() else {
            return Ok(None);
        };
        let manifest = self.solved.top(images)?.0.digest;
        let ids = [first.config_descriptor.digest, manifest];
        Ok(daemon_id(self.solved.client(), &ids)?)
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
    pub(super) fn with_files(
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
        let targets = &self.solved.build().targets;
        for (((directory, files), attested), target) in
            files.iter_mut().zip(&written.attested).zip(targets)
        {
            let is_shared = targets.len() > 1 && directory.is_none();
            let platform = is_shared.then(|| directory_of(&target.platform));
            directories.push(place.add(self.solved, files, attested, platform.as_deref())?);
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
        let split = self.output.split.unwrap_or(targets.len() > 1);
        let mut all = Vec::new();
        for target in targets {
            let prefix = split.then(|| directory_of(&target.platform));
            all.push((prefix, self.solved.root_files(target, self.events)?));
        }
        Ok(all)
    }
}

/// The directory of a platform's files, where there are several.
fn directory_of(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
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

/// The bytes of files.
fn size_of(files: &Files) -> u64 {
    let entries = files.iter().flat_map(|(_, files)| files);
    entries.map(|(entry, _)| entry.size()).sum()
}

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
