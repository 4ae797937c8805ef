//! Reads images that are files: OCI layouts (OCI image specification, image-layout.md), as a
//! directory or as one tar, and what `docker save` writes, also that from before it was a layout.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use kiln_graph::{BlobDigest, ImageConfig, Platform};
use kiln_tree::host;
use serde::Deserialize;

use crate::document::{Document, Index, choose, unread};
use crate::resolved::{Resolved, available, build_resolved};
use crate::{Descriptor, ImageError, Manifest, media_type};

const NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and Docker keep the whole name.
const FULL_NAME: &str = "io.containerd.image.name";
/// As in registries, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
const PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Where the files are.
enum Place {
    Directory(PathBuf),
    /// A tar, and where in it each file's bytes begin, and how many they are.
    Tar(PathBuf, BTreeMap<String, (u64, u64)>),
}

/// Images that are files.
pub(crate) struct Layout {
    place: Place,
    index: Index,
    /// Blobs that don't lie under their digests, as in old archives of Docker's.
    elsewhere: BTreeMap<BlobDigest, String>,
    /// Documents that were made up for old archives.
    made: BTreeMap<BlobDigest, Vec<u8>>,
}

/// An image of a layout.
pub(crate) struct Found {
    pub(crate) image: Resolved,
    /// Its manifest, and its configuration.
    pub(crate) documents: [Vec<u8>; 2],
}

/// An image of an old archive: `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// More attestations of an image, and more indexes in another, are not looked at.
const MAX_ATTESTATIONS: usize = 100;

impl Layout {
    /// Opens a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, ImageError> {
        Self::read_index(Place::Directory(directory.to_owned()))
    }

    /// Opens a tar.
    pub(crate) fn open_tar(file: &Path) -> Result<Self, ImageError> {
        let places = index_tar(file).map_err(|source| match source.raw_os_error() {
            Some(_) => ImageError::Io {
                what: file.display().to_string(),
                source,
            },
            // What the reader says may repeat the file, which may be any.
            None => ImageError::Document {
                image: file.display().to_string(),
                reason: "it is no archive of an image".to_owned(),
            },
        })?;
        if places.contains_key("index.json") {
            return Self::read_index(Place::Tar(file.to_owned(), places));
        }
        let mut layout = Self::empty(Place::Tar(file.to_owned(), places));
        layout.read_saved()?;
        Ok(layout)
    }

    fn empty(place: Place) -> Self {
        Self {
            place,
            index: Index {
                schema_version: 2,
                media_type: String::new(),
                manifests: Vec::new(),
                annotations: BTreeMap::new(),
            },
            elsewhere: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    fn read_index(place: Place) -> Result<Self, ImageError> {
        let mut layout = Self::empty(place);
        let bytes = layout.file("index.json").map_err(|source| ImageError::Io {
            what: format!("{} is no OCI layout", layout.name()),
            source,
        })?;
        layout.index = serde_json::from_slice(&bytes).map_err(|error| {
            layout.fail(format!("its index can't be understood: {}", unread(&error)))
        })?;
        Ok(layout)
    }

    /// Makes manifests of `manifest.json`.
    fn read_saved(&mut self) -> Result<(), ImageError> {
        let bytes = self.file("manifest.json").map_err(|_| {
            self.fail("it has neither index.json nor manifest.json: it is no image")
        })?;
        let saved: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| {
            self.fail(format!(
                "its manifest.json can't be understood: {}",
                unread(&error)
            ))
        })?;
        for image in &saved {
            self.add_saved(image)?;
        }
        Ok(())
    }

    fn add_saved(&mut self, image: &Saved) -> Result<(), ImageError> {
        let config = self.read_file(&image.config)?;
        let about: ImageConfig = serde_json::from_slice(&config).map_err(|error| {
            self.fail(format!(
                "a configuration can't be understood: {}",
                unread(&error)
            ))
        })?;
        let mut layers = Vec::new();
        for (path, diff_id) in image.layers.iter().zip(&about.rootfs.diff_ids) {
            let size = self.size(path)?;
            self.elsewhere.insert(*diff_id, path.clone());
            layers.push(Descriptor::new(PLAIN_LAYER, *diff_id, size));
        }
        let digest = BlobDigest::of(&config);
        self.elsewhere.insert(digest, image.config.clone());
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::new(media_type::CONFIG, digest, config.len() as u64),
            layers,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        let mut top = Descriptor::new(
            media_type::MANIFEST,
            BlobDigest::of(&bytes),
            bytes.len() as u64,
        );
        top.platform = Some((&about.platform()).into());
        for name in image.repo_tags.iter().flatten() {
            top.annotations.insert(FULL_NAME.to_owned(), name.clone());
        }
        self.made.insert(top.digest, bytes);
        self.index.manifests.push(top);
        Ok(())
    }

    /// The only manifest, when it is an artifact of that type.
    pub(crate) fn artifact(&self, artifact_type: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let [only] = &self.index.manifests[..] else {
            return Ok(None);
        };
        let bytes = self.read(&only.digest)?;
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok((document["artifactType"] == artifact_type).then_some(bytes))
    }

    /// The names of the images, where they have any.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.index.manifests.iter();
        all.filter_map(|image| image.annotations.get(FULL_NAME).cloned())
            .collect()
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Directory(directory) => format!("oci:{}", directory.display()),
            Place::Tar(file, _) => file.display().to_string(),
        }
    }

    fn fail(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Document {
            image: self.name(),
            reason: reason.into(),
        }
    }

    /// An image, with its manifest and its configuration as they are.
    pub(crate) fn resolve(
        &self,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Found, ImageError> {
        let has = |image: &Descriptor, tag: &str| {
            let named = [NAME, FULL_NAME]
                .iter()
                .filter_map(|key| image.annotations.get(*key));
            named.into_iter().any(|name| name == tag)
        };
        let named = |image: &&Descriptor| tag.is_none_or(|tag| has(image, tag));
        let manifests: Vec<Descriptor> =
            self.index.manifests.iter().filter(named).cloned().collect();
        let index = Index {
            manifests,
            ..self.index.clone()
        };
        self.resolve_in(&index, platform)
    }

    /// The attestations that lie beside an image in its index: their manifests. Those that aren't
    /// there are left out.
    pub(crate) fn attestations(&self, image: &BlobDigest) -> Vec<(BlobDigest, Vec<u8>)> {
        let mut found = Vec::new();
        self.attestations_in(&self.index, image, &mut found);
        let nested = self.index.manifests.iter().take(MAX_ATTESTATIONS);
        for entry in nested.filter(|entry| !entry.is_attestation()) {
            let inner = self.read(&entry.digest).ok();
            let inner = inner.and_then(|bytes| Document::read(&bytes).ok());
            if let Some(Document::Index(inner)) = inner {
                self.attestations_in(&inner, image, &mut found);
            }
        }
        found
    }

    fn attestations_in(
        &self,
        index: &Index,
        image: &BlobDigest,
        found: &mut Vec<(BlobDigest, Vec<u8>)>,
    ) {
        for entry in index.attestations_of(image).take(MAX_ATTESTATIONS) {
            let bytes = self.read(&entry.digest).ok();
            found.extend(bytes.map(|bytes| (entry.digest, bytes)));
        }
    }

    fn resolve_in(&self, index: &Index, platform: &Platform) -> Result<Found, ImageError> {
        let chosen = choose(index, platform).ok_or_else(|| ImageError::NoPlatform {
            image: self.name(),
            wanted: platform.to_string(),
            available: available(index),
        })?;
        let bytes = self.read(&chosen.digest)?;
        match Document::read(&bytes).map_err(|reason| self.fail(reason))? {
            Document::Index(inner) => self.resolve_in(&inner, platform),
            Document::Manifest(manifest) => {
                let config = self.read(&manifest.config.digest)?;
                let image = build_resolved(&self.name(), chosen.digest, &manifest, &config)?;
                Ok(Found {
                    image,
                    documents: [bytes, config],
                })
            }
        }
    }

    fn path_of(&self, digest: &BlobDigest) -> String {
        match self.elsewhere.get(digest) {
            Some(path) => path.clone(),
            None => format!("blobs/sha256/{}", digest.hex()),
        }
    }

    /// A document, checked.
    fn read(&self, digest: &BlobDigest) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.made.get(digest) {
            return Ok(bytes.clone());
        }
        let bytes = self.read_file(&self.path_of(digest))?;
        let actual = BlobDigest::of(&bytes);
        if actual != *digest {
            return Err(ImageError::WrongDigest {
                image: self.name(),
                what: "a document".to_owned(),
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        self.file(path).map_err(|source| ImageError::Io {
            what: format!("{path} of {}", self.name()),
            source,
        })
    }

    fn file(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        _ = self
            .reader(path)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(io::Error::other("it is larger than any manifest may be"));
        }
        Ok(bytes)
    }

    fn size(&self, path: &str) -> Result<u64, ImageError> {
        match &self.place {
            Place::Tar(_, places) => places
                .get(path)
                .map(|(_, size)| *size)
                .ok_or_else(|| self.fail(format!("it has no {path}"))),
            Place::Directory(_) => Ok(self.read_file(path)?.len() as u64),
        }
    }

    fn reader(&self, path: &str) -> io::Result<Box<dyn Read>> {
        match &self.place {
            Place::Directory(directory) => Ok(Box::new(host::open(directory.join(path))?)),
            Place::Tar(file, places) => {
                let (start, size) = places.get(path).ok_or(io::ErrorKind::NotFound)?;
                let mut file = host::open(file)?;
                _ = file.seek(SeekFrom::Start(*start))?;
                Ok(Box::new(file.take(*size)))
            }
        }
    }

    pub(crate) fn copy_blob(
        &self,
        digest: &BlobDigest,
        mut out: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let path = self.path_of(digest);
        let copied = self
            .reader(&path)
            .and_then(|mut file| io::copy(&mut file, &mut out));
        copied.map(drop).map_err(|source| ImageError::Io {
            what: format!("{path} of {}", self.name()),
            source,
        })
    }
}

/// Where the files of a tar begin, and their lengths. Links, which old archives have between
/// equal layers, are followed.
fn index_tar(file: &Path) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(host::open(file)?);
    let mut places: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut links = Vec::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        match entry.link_name()? {
            Some(target) => links.push((path, target.to_string_lossy().into_owned())),
            None => _ = places.insert(path, (entry.raw_file_position(), entry.size())),
        }
    }
    for (path, target) in links {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let beside = kiln_graph::ImagePath::new(directory)
            .resolve(&target)
            .to_string();
        let found = places
            .get(beside.trim_start_matches('/'))
            .or(places.get(&target));
        if let Some(place) = found.copied() {
            places.insert(path, place);
        }
    }
    Ok(places)
}
