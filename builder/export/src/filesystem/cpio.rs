//! cpio archives of the form that the kernel unpacks as initramfs ("newc": Linux,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`): headers of 110 ASCII characters, names
//! and contents filled up to 4 bytes. It has no extended attributes, and no file of 4 GiB.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use kiln_graph::{Entry, ImagePath, Node, Timestamp};
use kiln_tree::TreePath;

use super::{below_root, read_whole, refused, root_of};
use crate::output_entry::OutputEntry;
use crate::stat::{mode_of, shown};

/// Archives are a multiple of this long, as the program `cpio` writes them.
const BLOCK: u64 = 512;

/// Writes the archive of a tree, in which no time is later than `latest`. Returns the paths whose extended
/// attributes are lost.
///
/// # Errors
/// When a file can't be read, isn't what its entry says or is too large, or `out` can't be written.
pub fn write_cpio(
    files: &[OutputEntry],
    latest: Option<Timestamp>,
    out: &mut dyn Write,
) -> io::Result<Vec<ImagePath>> {
    let mut archive = Archive {
        out,
        written: 0,
        latest,
    };
    let links = names_of(files);
    let root = root_of(files);
    archive.member(&root, b".", 1, 2, &[])?;
    let mut inodes: BTreeMap<&ImagePath, u32> = BTreeMap::new();
    for (at, (entry, place)) in below_root(files).enumerate() {
        let own = u32::try_from(at).ok().and_then(|at| at.checked_add(2));
        let own = own.ok_or_else(|| refused(&entry.path, "is one file too many for cpio"))?;
        archive.file((entry, place), own, &links, &mut inodes)?;
    }
    archive.end()?;
    let all = files.iter().map(|(entry, _)| entry);
    let lost = all.filter(|entry| !entry.xattrs.is_empty());
    Ok(lost.map(|entry| entry.path.clone()).collect())
}

/// Files with several names: how many each has, and its entry.
fn names_of(files: &[OutputEntry]) -> BTreeMap<&ImagePath, (u32, &Entry)> {
    let first = files.iter().map(|(entry, _)| (&entry.path, (1, entry)));
    let mut names: BTreeMap<_, _> = first.collect();
    for (entry, _) in files {
        if let Node::HardLink { to } = &entry.node
            && let Some((count, _)) = names.get_mut(to)
        {
            *count += 1;
        }
    }
    names
}

/// The name of the member that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// What a file is called in the archive. Whoever reads it would stop at a file of the trailer's name.
fn member_name(path: &[u8]) -> Cow<'_, [u8]> {
    match path == TRAILER {
        true => [b"./", path].concat().into(),
        false => path.into(),
    }
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    written: u64,
    latest: Option<Timestamp>,
}

impl Archive<'_> {
    /// Writes one name. All names of a file have one inode; the first has the content.
    fn file<'e>(
        &mut self,
        (entry, place): (&'e Entry, &TreePath),
        own: u32,
        names: &BTreeMap<&ImagePath, (u32, &Entry)>,
        inodes: &mut BTreeMap<&'e ImagePath, u32>,
    ) -> io::Result<()> {
        let first = match &entry.node {
            Node::HardLink { to } => to,
            Node::Whiteout => return Ok(()),
            _ => &entry.path,
        };
        let (count, attributes) = names.get(first).copied().unwrap_or((1, entry));
        let inode = *inodes.entry(first).or_insert(own);
        let count = if entry.is_directory() { 2 } else { count };
        let name = member_name(entry.path.relative_bytes());
        match &entry.node {
            Node::Symlink { target } => self.member(attributes, &name, inode, count, target),
            Node::File { size, .. } => {
                let size = u32::try_from(*size).map_err(|_| {
                    refused(&entry.path, "is larger than 4 GiB: cpio can't hold it")
                })?;
                self.header(attributes, &name, inode, count, size)?;
                read_whole(entry, place, |bytes| self.put(bytes))?;
                self.fill(4)
            }
            _ => self.member(attributes, &name, inode, count, &[]),
        }
    }

    fn member(
        &mut self,
        entry: &Entry,
        name: &[u8],
        inode: u32,
        links: u32,
        content: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.header(entry, name, inode, links, size)?;
        self.put(content)?;
        self.fill(4)
    }

    fn header(
        &mut self,
        entry: &Entry,
        name: &[u8],
        inode: u32,
        links: u32,
        size: u32,
    ) -> io::Result<()> {
        let time = shown(entry, self.latest).seconds;
        let time = u32::try_from(time.max(0)).unwrap_or(u32::MAX);
        let (major, minor) = match entry.node {
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                (major, minor)
            }
            _ => (0, 0),
        };
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [
            inode,
            mode_of(entry),
            entry.uid,
            entry.gid,
            links,
            time,
            size,
            0,
            0,
            major,
            minor,
            length,
            0,
        ];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.put(b"070701")?;
        self.put(fields.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.fill(4)
    }

    fn end(&mut self) -> io::Result<()> {
        let nothing = Entry {
            mode: 0,
            node: Node::Whiteout,
            ..Entry::directory(ImagePath::root())
        };
        self.header(&nothing, TRAILER, 0, 1, 0)?;
        self.fill(BLOCK)?;
        self.out.flush()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Fills up to a multiple of `block` bytes.
    fn fill(&mut self, block: u64) -> io::Result<()> {
        let zeros = self.written.next_multiple_of(block) - self.written;
        self.put(&[0; BLOCK as usize][..usize::try_from(zeros).unwrap_or(0)])
    }
}
