//! Files that have several names.

use std::collections::BTreeMap;

use kiln_graph::{Entry, ImagePath, Node};
use rustix::fs::Stat;

/// An entry, and what tells whether it is another name of one.
#[derive(Clone, Debug)]
pub struct Inode {
    /// The entry, as if it had no other name.
    pub entry: Entry,
    id: (u64, u64),
    links: u64,
}

impl Inode {
    /// The entry of what `stat` describes.
    #[must_use]
    pub fn new(entry: Entry, stat: &Stat) -> Self {
        Self {
            entry,
            id: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
        }
    }
}

/// Turns all but the first name of a file with several into hard links. The inodes come in path
/// order, each path once.
#[must_use]
pub fn join_links(inodes: Vec<Inode>) -> Vec<Entry> {
    let mut first_names: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
    let mut entries = Vec::with_capacity(inodes.len());
    for Inode {
        mut entry,
        id,
        links,
    } in inodes
    {
        if links > 1 && matches!(entry.node, Node::File { .. }) {
            match first_names.get(&id) {
                Some(to) => entry.node = Node::HardLink { to: to.clone() },
                None => _ = first_names.insert(id, entry.path.clone()),
            }
        }
        entries.push(entry);
    }
    entries
}
