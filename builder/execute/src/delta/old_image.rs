//! The files of an image that is here, as what differences refer to.

use std::collections::HashMap;
use std::io;

use kiln_cache::Tree;
use kiln_delta::{Catalog, OldEntry, OldFile, OldFiles};
use kiln_graph::{Digest, Entry, Node};
use kiln_tree::TreePath;

use crate::EngineError;
use crate::view::view_of;

/// The regular files that an image shows. Paths are looked up in its manifests, never on the host.
#[derive(Debug, Default)]
pub struct OldImage(HashMap<String, Known>);

#[derive(Debug)]
struct Known {
    place: TreePath,
    size: u64,
    digest: Digest,
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
                        digest,
                    },
                );
            }
        }
        Ok(Self(files))
    }

    /// The files, to find those that are like new ones.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        let entry = |(path, known): (&String, &Known)| OldEntry {
            path: path.clone(),
            size: known.size,
            digest: known.digest,
        };
        self.0.iter().map(entry).collect()
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
