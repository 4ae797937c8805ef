//! The inodes of a tree: one for each file, however many names it has.

use std::collections::BTreeMap;

use kiln_graph::{Entry, ImagePath, Node, Timestamp};
use kiln_tree::TreePath;

use super::directory::{self, Name};
use super::format::ROOT;
use super::xattr;
use crate::output_entry::OutputEntry;
use crate::stat::{device_number, mode_of, shown};

/// One inode.
pub(super) struct INode<'a> {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) links: u32,
    pub(super) xattrs: Vec<u8>,
    pub(super) content: Content<'a>,
}

/// What an inode holds.
pub(super) enum Content<'a> {
    File {
        entry: &'a Entry,
        place: &'a TreePath,
    },
    /// The text of a link.
    Bytes(Vec<u8>),
    /// The names in it, sorted; the bytes are known when all inodes have numbers.
    Directory(Vec<Name>),
    /// The number of a device, as the kernel encodes it; 0 for pipes and sockets.
    Special(u32),
}

impl INode<'_> {
    /// The length of the content in bytes.
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::File { entry, .. } => entry.size(),
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Directory(names) => directory::size(names),
            Content::Special(_) => 0,
        }
    }
}

/// The inodes, the root first, then in the order of their first paths.
pub(super) struct Nodes<'a>(Vec<INode<'a>>);

impl<'a> Nodes<'a> {
    pub(super) fn of(files: &'a [OutputEntry], latest: Option<Timestamp>) -> Self {
        let mut building = Building {
            nodes: vec![inode(
                &Entry::directory(ImagePath::root()),
                empty_directory(),
                latest,
            )],
            by_path: [(ImagePath::root(), ROOT)].into(),
            latest,
        };
        for (entry, place) in files {
            building.add(entry, place);
        }
        for node in &mut building.nodes {
            if let Content::Directory(names) = &mut node.content {
                names.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        Self(building.nodes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &INode<'a>> {
        self.0.iter()
    }
}

struct Building<'a> {
    nodes: Vec<INode<'a>>,
    by_path: BTreeMap<ImagePath, usize>,
    latest: Option<Timestamp>,
}

impl<'a> Building<'a> {
    fn add(&mut self, entry: &'a Entry, place: &'a TreePath) {
        if entry.path.is_root() {
            let names = std::mem::replace(&mut self.nodes[ROOT].content, Content::Special(0));
            let links = self.nodes[ROOT].links;
            self.nodes[ROOT] = INode {
                content: names,
                links,
                ..inode(entry, empty_directory(), self.latest)
            };
            return;
        }
        let own = match &entry.node {
            Node::Whiteout => return,
            Node::HardLink { to } => match self.by_path.get(to).copied() {
                Some(own) => own,
                None => return,
            },
            _ => self.nodes.len(),
        };
        match self.nodes.get_mut(own) {
            Some(linked) => linked.links += 1,
            None => self
                .nodes
                .push(inode(entry, content(entry, place), self.latest)),
        }
        self.by_path.insert(entry.path.clone(), own);
        self.name(&entry.path, own);
    }

    /// Puts a name into the directory above, which is made when nothing spoke of it.
    fn name(&mut self, path: &ImagePath, own: usize) {
        let above = path.parent().unwrap_or_default();
        let directory = match self.by_path.get(&above) {
            Some(known) => *known,
            None => {
                let entry = Entry::directory(above.clone());
                self.nodes
                    .push(inode(&entry, empty_directory(), self.latest));
                let made = self.nodes.len() - 1;
                self.by_path.insert(above.clone(), made);
                self.name(&above, made);
                made
            }
        };
        let kind = directory::kind(self.nodes[own].mode);
        let is_directory = matches!(self.nodes[own].content, Content::Directory(_));
        if let Content::Directory(names) = &mut self.nodes[own].content {
            // Its ".." is known now.
            for name in names.iter_mut().filter(|name| name.name == b"..") {
                name.node = directory;
            }
            for name in names.iter_mut().filter(|name| name.name == b".") {
                name.node = own;
            }
        }
        let name = path.file_name().unwrap_or_default().to_vec();
        let parent = &mut self.nodes[directory];
        if is_directory {
            parent.links += 1;
        }
        if let Content::Directory(names) = &mut parent.content {
            names.push(Name {
                name,
                node: own,
                kind,
            });
        }
    }
}

/// What a directory holds that nothing was put into: its own names, which lead to the root for now.
fn empty_directory() -> Content<'static> {
    Content::Directory(directory::own_names())
}

fn content<'a>(entry: &'a Entry, place: &'a TreePath) -> Content<'a> {
    match &entry.node {
        Node::File { .. } => Content::File { entry, place },
        Node::Symlink { target } => Content::Bytes(target.clone()),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            Content::Special(device_number(*major, *minor))
        }
        Node::Directory { .. } => empty_directory(),
        Node::Fifo | Node::Socket | Node::HardLink { .. } | Node::Whiteout => Content::Special(0),
    }
}

/// The inode of an entry.
fn inode<'a>(entry: &Entry, content: Content<'a>, latest: Option<Timestamp>) -> INode<'a> {
    INode {
        // Types and permissions have 16 bits.
        mode: mode_of(entry) as u16,
        uid: entry.uid,
        gid: entry.gid,
        mtime: shown(entry, latest),
        links: if entry.is_directory() { 2 } else { 1 },
        xattrs: xattr::encoded(&entry.xattrs),
        content,
    }
}
