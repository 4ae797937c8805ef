//! Entries for tests.

use kiln_graph::{Digest, Entry, Node};

pub(crate) fn file(path: &str, content: &str) -> Entry {
    let node = Node::File {
        size: content.len() as u64,
        digest: Digest::of(content.as_bytes()),
    };
    Entry {
        node,
        ..directory(path)
    }
}

pub(crate) fn directory(path: &str) -> Entry {
    Entry::directory(path.into())
}
