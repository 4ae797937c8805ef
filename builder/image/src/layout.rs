//! Reads OCI layout folders (OCI image specification, image-layout.md).

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_graph::{BlobDigest, Platform};

use crate::client::{Resolved, available, build_resolved};
use crate::document::{Document, Index, choose};
use crate::{Descriptor, ImageError};

const NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI layout folder.
pub(crate) struct Layout {
    folder: PathBuf,
    index: Index,
}

impl Layout {
    pub(crate) fn open(folder: &Path) -> Result<Self, ImageError> {
        let path = folder.join("index.json");
        let bytes = std::fs::read(&path).map_err(|source| ImageError::Io {
            what: format!("{} is no OCI layout", folder.display()),
            source,
        })?;
        let index = serde_json::from_slice(&bytes).map_err(|error| ImageError::Document {
            image: folder.display().to_string(),
            reason: format!("its index can't be understood: {error}"),
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            index,
        })
    }

    fn name(&self) -> String {
        format!("oci:{}", self.folder.display())
    }

    fn fail(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Document {
            image: self.name(),
            reason: reason.into(),
        }
    }

    pub(crate) fn resolve(
        &self,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Resolved, ImageError> {
        let named = |image: &&Descriptor| {
            tag.is_none_or(|tag| image.annotations.get(NAME).is_some_and(|n| n == tag))
        };
        let manifests: Vec<Descriptor> =
            self.index.manifests.iter().filter(named).cloned().collect();
        let index = Index {
            manifests,
            ..self.index.clone()
        };
        self.resolve_in(&index, platform)
    }

    fn resolve_in(&self, index: &Index, platform: &Platform) -> Result<Resolved, ImageError> {
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
                build_resolved(&self.name(), chosen.digest, &manifest, &config)
            }
        }
    }

    fn blob(&self, digest: &BlobDigest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    fn read(&self, digest: &BlobDigest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob(digest);
        std::fs::read(&path).map_err(|source| ImageError::Io {
            what: path.display().to_string(),
            source,
        })
    }

    pub(crate) fn copy_blob(
        &self,
        digest: &BlobDigest,
        mut out: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let path = self.blob(digest);
        let copied =
            std::fs::File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut out));
        copied.map(drop).map_err(|source| ImageError::Io {
            what: path.display().to_string(),
            source,
        })
    }
}
