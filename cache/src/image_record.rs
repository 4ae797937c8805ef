//! Tagged images: `images/<name, with / as %2F and % as %25>`, in the form of `memo`.

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use kiln_tree::host;
use serde::{Deserialize, Serialize};

use crate::checked_text::read_checked;
use crate::error::Context as _;
use crate::{Store, StoreError};

/// What a name stands for. The blobs it needs are kept as long as it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The whole name, with registry and tag.
    pub name: String,
    /// Digest of the manifest or index.
    pub digest: BlobDigest,
    /// Its media type.
    pub media_type: String,
    /// The configuration's digest; of the first image when there are several.
    pub config: BlobDigest,
    /// What the images run on.
    pub platforms: Vec<String>,
    /// The sum of all blobs' lengths in bytes.
    pub size: u64,
    /// When it was tagged, in seconds since 1970.
    pub tagged: u64,
    /// Every blob it needs.
    pub blobs: Vec<BlobDigest>,
    /// The index that its registry gave for the name, of which it is the part for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<BlobDigest>,
    /// Names of images in registries that have blobs of it: those may not be here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<BlobDigest, String>,
}

/// The named images of a store; [`Store::images`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a>(&'a Store);

impl Store {
    /// Its named images.
    #[must_use]
    pub fn images(&self) -> Images<'_> {
        Images(self)
    }
}

impl Images<'_> {
    fn path_of(&self, name: &str) -> std::path::PathBuf {
        self.0
            .path("images")
            .join(name.replace('%', "%25").replace('/', "%2F"))
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn get(&self, name: &str) -> Result<Option<ImageRecord>, StoreError> {
        let text = read_checked(&self.path_of(name))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Gives an image a name; one that had the name loses it.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn tag(&self, image: &ImageRecord) -> Result<(), StoreError> {
        self.0.put_checked(&self.path_of(&image.name), image)
    }

    /// All named images, sorted by name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn all(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut images: Vec<ImageRecord> = Vec::new();
        for entry in host::read_dir(self.0.path("images"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = read_checked(&entry.path())?;
            images.extend(text.and_then(|text| serde_json::from_str(&text).ok()));
        }
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// Takes a name away; whether there was one.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path_of(name);
        match host::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context("remove", &path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn names_come_and_go() {
        let (_directory, store) = scratch_store();
        let digest = BlobDigest::from_sha256([7; 32]);
        let image = |name: &str| ImageRecord {
            name: name.to_owned(),
            digest,
            media_type: String::new(),
            config: digest,
            platforms: vec![],
            size: 1,
            tagged: 2,
            blobs: vec![digest],
            index: None,
            origins: BTreeMap::from([(digest, "r.example/base:1".to_owned())]),
        };
        for name in ["localhost/b:1", "docker.io/library/a:latest"] {
            store.images().tag(&image(name)).unwrap();
        }
        let names: Vec<String> = store
            .images()
            .all()
            .unwrap()
            .into_iter()
            .map(|i| i.name)
            .collect();
        let found = store.images().get("localhost/b:1").unwrap();
        assert_eq!(found, Some(image("localhost/b:1")));
        assert_eq!(names, ["docker.io/library/a:latest", "localhost/b:1"]);
        assert!(store.images().remove("localhost/b:1").unwrap());
        assert!(!store.images().remove("localhost/b:1").unwrap());
        assert_eq!(store.images().get("localhost/b:1").unwrap(), None);
    }
}
