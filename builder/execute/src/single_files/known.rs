//! Contents that are here already: files of earlier images, found by their names and lengths and told
//! by their digests.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_graph::BlobDigest;
use kiln_image::layer::SingleFile;
use kiln_tree::TreePath;

use crate::delta::OldImage;
use crate::hashing::Hashing;

/// So many files of one name and length are looked at.
const MAX_ALIKE: usize = 4;

/// The files of images that are here.
pub(super) struct KnownFiles<'a> {
    images: &'a [Arc<OldImage>],
    /// By file name and length.
    by_name: HashMap<(&'a str, u64), Vec<&'a TreePath>>,
    /// Found once for each file: a stranger's table can ask for one as often as it likes.
    digests: Mutex<HashMap<PathBuf, Option<BlobDigest>>>,
}

impl<'a> KnownFiles<'a> {
    pub(super) fn of(images: &'a [Arc<OldImage>]) -> Self {
        let mut by_name: HashMap<(&str, u64), Vec<&TreePath>> = HashMap::new();
        for (path, place, size) in images.iter().flat_map(|image| image.files()) {
            let alike = by_name.entry((file_name(path), size)).or_default();
            if alike.len() < MAX_ALIKE {
                alike.push(place);
            }
        }
        Self {
            images,
            by_name,
            digests: Mutex::default(),
        }
    }

    /// Where a file's content is here, at the same path or under the same name.
    pub(super) fn find(&self, file: &SingleFile) -> Option<TreePath> {
        let path = normal(&file.name);
        let same = self.images.iter().filter_map(|image| image.find(path));
        let same = same.filter(|(_, size)| *size == file.size);
        let alike = self.by_name.get(&(file_name(path), file.size));
        let places = same.map(|(place, _)| place);
        let mut places = places.chain(alike.into_iter().flatten().copied());
        places
            .find(|place| self.digest(place, file.size) == Some(file.digest))
            .cloned()
    }

    /// The digest of a file; none of one that can't be read.
    fn digest(&self, place: &TreePath, size: u64) -> Option<BlobDigest> {
        let key = place.display();
        let known = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&key) {
            return *found;
        }
        let found = digest(place, size).ok();
        known().insert(key, found);
        found
    }
}

/// A name in a tar as a path from the root.
fn normal(name: &str) -> &str {
    let name = name.strip_prefix("./").unwrap_or(name);
    name.trim_start_matches('/')
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn digest(place: &TreePath, size: u64) -> io::Result<BlobDigest> {
    let mut hash = Hashing::new(io::sink());
    io::copy(&mut place.open_file()?.take(size + 1), &mut hash)?;
    hash.finish()
}
