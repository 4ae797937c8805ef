//! Entries of results for tests.

use kiln_engine::OutputEntry;
use kiln_graph::{Digest, Entry, ImagePath, Node};
use kiln_tree::TreeRoot;

/// An empty file, or a directory, that is nowhere.
pub(crate) fn entry(path: &str, is_file: bool) -> OutputEntry {
    let path = ImagePath::new(path);
    let mut entry = Entry::directory(path.clone());
    if is_file {
        entry.node = Node::File {
            size: 0,
            digest: Digest::of(b""),
        };
    }
    let root = TreeRoot::at(std::path::Path::new("/none"));
    (entry, root.join(path))
}
