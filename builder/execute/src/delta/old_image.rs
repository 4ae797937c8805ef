//! The files of an image that is here, as what differences refer to.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use kiln_cache::Tree;
use kiln_delta::{Catalog, OldEntry, OldFile, OldFiles};
use kiln_graph::{Digest, Entry, ImagePath, Node};
use kiln_tree::{Decision, Found, TreeError, TreePath, TreeRoot, walk};
use rustix::fs::FileType;

use crate::EngineError;
use crate::view::view_of;

/// The regular files that an image shows. Paths are looked up in its manifests, never on the host.
#[derive(Debug, Default)]
pub struct OldImage(HashMap<String, Known>);

#[derive(Debug)]
struct Known {
    place: TreePath,
    size: u64,
    /// Not known of files outside of the store.
    digest: Option<Digest>,
}

impl OldImage {
    /// The files that these trees show, lowest first.
    ///
    /// # Errors
    /// When a manifest can't be read.
    pub fn of(trees: &[Tree]) -> Result<Self, EngineError> {
        let mut files = HashMap::new();
        for (entry, place) in view_of(trees)?.flatten() {
            // A path that is no text can't be named in a difference.
            if let Node::File { size, digest } = entry.node
                && let Some(path) = path_text(&entry)
            {
                files.insert(
                    path,
                    Known {
                        place,
                        size,
                        digest: Some(digest),
                    },
                );
            }
        }
        Ok(Self(files))
    }

    /// The files of an image that lie in a directory of the host's, which the user named. What the kernel
    /// keeps at the top of a running system is left out.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn of_directory(directory: &Path) -> Result<Self, TreeError> {
        let root = TreeRoot::at(directory);
        let filter = |path: &ImagePath, _: bool| match path.relative_bytes() {
            b"dev" | b"proc" | b"run" | b"sys" => Decision::SkipAll,
            _ => Decision::Take,
        };
        let visit = |found: &Found<'_>| {
            let is_file = found.kind == FileType::RegularFile;
            let path = String::from_utf8(found.path.relative_bytes().to_vec());
            Ok(path.ok().filter(|_| is_file).map(|path| {
                let known = Known {
                    place: root.join(found.path.clone()),
                    size: u64::try_from(found.stat.st_size).unwrap_or(0),
                    digest: None,
                };
                (path, known)
            }))
        };
        let files = walk(&root, &ImagePath::root(), &filter, &visit)?;
        Ok(Self(files.into_iter().collect()))
    }

    /// A file by its path from the root: where its content is, and its length.
    pub(crate) fn find(&self, path: &str) -> Option<(&TreePath, u64)> {
        let known = self.0.get(path)?;
        Some((&known.place, known.size))
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &TreePath, u64)> {
        let all = self.0.iter();
        all.map(|(path, known)| (&**path, &known.place, known.size))
    }

    /// The files, to find those that are like new ones.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        let entry = |(path, known): (&String, &Known)| {
            Some(OldEntry {
                path: path.clone(),
                size: known.size,
                digest: known.digest?,
            })
        };
        self.0.iter().filter_map(entry).collect()
    }
}

fn path_text(entry: &Entry) -> Option<String> {
    String::from_utf8(entry.path.relative_bytes().to_vec()).ok()
}

impl OldFiles for OldImage {
    fn open(&self, path: &str) -> io::Result<Option<OldFile>> {
        let Some(known) = self.0.get(path) else {
            return Ok(None);
        };
        let content = known.place.open_file()?;
        Ok(Some(OldFile {
            content: Box::new(content),
            size: known.size,
        }))
    }
}
