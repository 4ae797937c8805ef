//! Attestations of images in outputs: beside the image in an index, sent after it, or as files.

use std::path::PathBuf;

use kiln_attest::artifact::Form;
use kiln_attest::provenance::Provenance;
use kiln_attest::sbom::Format;
use kiln_engine::{EventSink, Image, ImageOptions, OutputEntry, Solved};
use kiln_graph::{Digest, Entry, ImagePath, Node, Target, Timestamp};
use kiln_image::Reference;
use kiln_tree::TreeRoot;

use super::place::fail;
use crate::attest::{Attested, Finished, publish, push_image};
use crate::{AttestOptions, Error, Storage};

/// A build's result on its way out.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) solved: &'a Solved,
    pub(crate) options: &'a ImageOptions,
    pub(crate) names: &'a [Reference],
    pub(crate) events: &'a dyn EventSink,
}

impl<'a> Outgoing<'a> {
    fn finished(&self, target: &'a Target, image: Option<&'a Image>) -> Finished<'a> {
        Finished {
            solved: self.solved,
            target,
            image,
            options: self.options,
            names: self.names,
        }
    }
}

/// Makes the attestations that are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Attester<'a> {
    /// Which are wanted.
    pub options: &'a AttestOptions,
    /// What is known of the build.
    pub facts: &'a Provenance,
}

impl Attester<'_> {
    /// The attestations of each image, in the order of the targets. `images` is empty when the
    /// result is files.
    pub(crate) fn about(
        &self,
        out: &Outgoing<'_>,
        images: &[Image],
    ) -> Result<Vec<Attested>, Error> {
        let one = |(number, target)| {
            let finished = out.finished(target, images.get(number));
            self.options.attest(&finished, self.facts, out.events)
        };
        let targets = out.solved.build().targets.iter().enumerate();
        targets.map(one).collect()
    }

    /// Puts attestations beside the images in an index.
    pub(crate) fn put_beside(
        &self,
        solved: &Solved,
        images: &mut [Image],
        attested: &[Attested],
    ) -> Result<(), Error> {
        let form = match self.options.storage {
            Some(Storage::Index(form)) => form,
            _ => Form::Artifact,
        };
        for (image, attested) in images.iter_mut().zip(attested) {
            if let Some(artifact) = attested.artifact(form) {
                solved.attest(image, artifact)?;
            }
        }
        Ok(())
    }

    /// Sends images and their attestations.
    pub(crate) fn push(
        &self,
        out: &Outgoing<'_>,
        images: &[Image],
        attested: &[Attested],
    ) -> Result<(), Error> {
        let (top, _) = out.solved.top(images)?;
        let signature = self.options.sign_top(out.solved.client(), &top)?;
        for name in out.names {
            push_image(out.solved, images, name, out.events)?;
            let top = (&top, signature.as_ref());
            publish(out.solved, self.options, name, top, attested, out.events);
        }
        Ok(())
    }
}

/// How attestations lie among the files of a result.
pub(super) struct Place<'a> {
    /// What their names begin with.
    pub(super) prefix: &'a str,
    /// Their time.
    pub(super) time: Option<Timestamp>,
}

/// A file's name with a platform's before its ending, for files of several platforms that lie in one directory.
fn with_platform(file: &str, platform: &str) -> String {
    match file.rsplit_once('.') {
        Some((name, ending)) => format!("{name}.{platform}.{ending}"),
        None => format!("{file}.{platform}"),
    }
}

impl Place<'_> {
    /// Adds files with attestations to the files of a result, with its platform in their names where one is given. Returns the directory that holds
    /// them, to be removed when they are written.
    pub(super) fn add(
        &self,
        solved: &Solved,
        files: &mut Vec<OutputEntry>,
        attested: &Attested,
        platform: Option<&str>,
    ) -> Result<PathBuf, Error> {
        let directory = solved.scratch_directory()?;
        let root = TreeRoot::at(&directory);
        for (name, bytes) in attested.files() {
            let name = platform.map_or_else(|| name.to_owned(), |text| with_platform(name, text));
            let name = format!("{}{name}", self.prefix);
            let host = directory.join(&name);
            std::fs::write(&host, &bytes).map_err(|source| fail(&host, source))?;
            let path = ImagePath::new(name);
            files.retain(|(entry, _)| !entry.path.starts_with(&path));
            let entry = Entry {
                mode: 0o644,
                mtime: self.time.unwrap_or_default(),
                node: Node::File {
                    size: bytes.len() as u64,
                    digest: Digest::of(&bytes),
                },
                ..Entry::directory(path.clone())
            };
            files.push((entry, root.join(path)));
        }
        files.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        Ok(directory)
    }
}

/// The list of what is in the only target, as a file has it.
pub(crate) fn sbom(out: &Outgoing<'_>, format: Format) -> Result<Vec<u8>, Error> {
    let [target] = &out.solved.build().targets[..] else {
        return Err(Error::Usage(
            "-o type=sbom writes the list of one image: give one --platform".to_owned(),
        ));
    };
    let document = out.finished(target, None).sbom(format, out.events)?;
    Ok(format!("{document:#}\n").into_bytes())
}
