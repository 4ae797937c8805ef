//! Brings files and whole trees to another place, without copying bytes where the file system
//! allows it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;

use kiln_graph::{Entry, ImagePath, Node};
use rayon::prelude::*;
use rustix::fs::{SeekFrom, fstat};
use rustix::io::Errno;

use crate::attributes::set_file_attributes;
use crate::{Linker, TreePath, TreeRoot};

/// Whether two names may share one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Both names are in the store, where nothing writes through a link, and mode, owner, times
    /// and xattrs are to be the same.
    HardLink,
    /// The other name belongs to somebody who may write to it.
    ContentOnly,
}

/// Told how many bytes more were copied; its error ends the copying.
pub type Progress<'a> = &'a (dyn Fn(u64) -> io::Result<()> + Sync);

/// So much is copied between two words of progress.
const MAX_STRETCH: u64 = 32 << 20;

/// A copied file: both ends are still open.
#[derive(Debug)]
pub struct Copied {
    /// What was read.
    pub source: File,
    /// The copy, with mode 0600 and owned by the caller.
    pub target: File,
}

impl TreePath {
    /// Makes a new file of another tree a copy of this regular file: by reflink, else by bytes.
    ///
    /// # Errors
    /// What the system says; there must be nothing at `path`.
    pub fn copy_to(&self, root: &TreeRoot, path: &ImagePath) -> io::Result<Copied> {
        self.copy_telling(root, path, &|_| Ok(()))
    }

    /// As [`Self::copy_to`], with progress.
    ///
    /// # Errors
    /// What the system or `progress` says; then half a file may be at `path`.
    pub fn copy_telling(
        &self,
        root: &TreeRoot,
        path: &ImagePath,
        progress: Progress<'_>,
    ) -> io::Result<Copied> {
        let source = self.open_file()?;
        let target = root.create_file(path)?;
        let size = u64::try_from(fstat(&source)?.st_size).unwrap_or(0);
        copy_content(&source, &target, size, progress)?;
        Ok(Copied { source, target })
    }
}

/// Makes a tree of entries, each with the place of its content, in an empty directory, with all
/// their attributes. What overlayfs or a user namespace can't have is left to the manifest.
/// Sockets are left out.
///
/// # Errors
/// What the system says.
pub fn copy_tree(
    files: &[(Entry, TreePath)],
    to: &TreeRoot,
    give_away: bool,
    sharing: Sharing,
) -> io::Result<()> {
    let directories = || files.iter().filter(|(entry, _)| entry.is_directory());
    for (entry, _) in directories().filter(|(entry, _)| !entry.path.is_root()) {
        to.create_directory(&entry.path)?;
    }
    files.par_iter().with_min_len(16).try_for_each_init(
        Linker::default,
        |linker, (entry, from)| {
            // A link has the attributes already; one that can't be made is a copy.
            let links = sharing == Sharing::HardLink && matches!(entry.node, Node::File { .. });
            match links && linker.link(&to.join(entry.path.clone()), from).is_ok() {
                true => Ok(()),
                false => copy_one(entry, from, to, give_away),
            }
        },
    )?;
    for (entry, _) in files {
        if let Node::HardLink { to: first } = &entry.node {
            to.link(&entry.path, &to.join(first.clone()))?;
        }
    }
    for (entry, _) in directories().rev() {
        to.set_attributes(entry, give_away)?;
    }
    Ok(())
}

fn copy_one(entry: &Entry, from: &TreePath, to: &TreeRoot, give_away: bool) -> io::Result<()> {
    match &entry.node {
        Node::Directory { .. } | Node::HardLink { .. } | Node::Whiteout | Node::Socket => Ok(()),
        Node::File { .. } => {
            let copied = from.copy_to(to, &entry.path)?;
            set_file_attributes(&copied.target, entry, give_away)
        }
        node => match to.create_node(&entry.path, node)? {
            true => to.set_attributes(entry, give_away),
            false => Ok(()),
        },
    }
}

/// Copies `size` bytes of `source` into the empty `target`, in the kernel where it can be. Holes
/// stay holes.
fn copy_content(source: &File, target: &File, size: u64, progress: Progress<'_>) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return progress(size);
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, size)? {
        copy_range(source, target, start..end, progress)?;
        at = end;
    }
    if at < size {
        target.set_len(size)?;
    }
    Ok(())
}

/// The next stretch that is no hole.
fn next_data(source: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(source, SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some((start, end)))
}

fn copy_range(
    source: &File,
    target: &File,
    range: Range<u64>,
    progress: Progress<'_>,
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(MAX_STRETCH);
        let copied = copy_stretch(source, target, at, length)?;
        if copied == 0 {
            return Ok(());
        }
        at += copied;
        progress(copied)?;
    }
    Ok(())
}

/// Copies up to `length` bytes; returns how many, 0 at the end of the source.
fn copy_stretch(source: &File, target: &File, at: u64, length: u64) -> io::Result<u64> {
    let (mut from, mut to) = (at, at);
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted) {
        Ok(copied) => Ok(copied as u64),
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::NOTSUP | Errno::PERM) => {
            copy_bytes(source, target, at, length)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_bytes(mut source: &File, mut target: &File, at: u64, length: u64) -> io::Result<u64> {
    _ = source.seek(io::SeekFrom::Start(at))?;
    _ = target.seek(io::SeekFrom::Start(at))?;
    io::copy(&mut source.take(length), &mut target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OverlayXattrs;
    use crate::upper::{UpperOptions, scan};
    use kiln_graph::{Manifest, Timestamp};
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn holes_stay_holes_and_all_bytes_come() {
        let directory = tempfile::tempdir().unwrap();
        let root = TreeRoot::at(directory.path());
        let at = |name: &str| directory.path().join(name);
        let source = File::create(at("from")).unwrap();
        source.set_len(40 << 20).unwrap();
        for (place, bytes) in [(0, "first"), (20 << 20, "middle"), ((40 << 20) - 4, "last")] {
            source.write_all_at(bytes.as_bytes(), place).unwrap();
        }
        let from = root.join("/from".into());
        _ = from.copy_to(&root, &"/to".into()).unwrap();
        assert!(from.copy_to(&root, &"/to".into()).is_err());
        assert!(std::fs::read(at("from")).unwrap() == std::fs::read(at("to")).unwrap());
        assert!(std::fs::metadata(at("to")).unwrap().blocks() * 512 < 1 << 20);
        let bytes = File::create(at("bytes")).unwrap();
        let source = File::open(at("from")).unwrap();
        copy_bytes(&source, &bytes, 0, 40 << 20).unwrap();
        assert!(std::fs::read(at("from")).unwrap() == std::fs::read(at("bytes")).unwrap());
    }

    fn manifest_of(root: &TreeRoot) -> Manifest {
        let options = UpperOptions {
            xattrs: OverlayXattrs::User,
            started: Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            },
            owner: &|_, uid, gid| (uid, gid),
        };
        scan(root, &options).unwrap()
    }

    /// Everything a tree can hold comes over: owners, modes, times, attributes, links, pipes.
    #[test]
    fn a_copied_tree_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join("from").join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("d/e/file"), "content").unwrap();
        std::fs::hard_link(at("d/e/file"), at("d/zweiter")).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        let from = TreeRoot::at(directory.path().join("from"));
        from.create_node(&"/pipe".into(), &Node::Fifo).unwrap();
        let file = "d/e/file";
        std::fs::set_permissions(at(file), std::fs::Permissions::from_mode(0o6751)).unwrap();
        std::fs::set_permissions(at("d"), std::fs::Permissions::from_mode(0o1770)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            for (name, id) in [
                ("d/e/file", 1000),
                ("link", 1001),
                ("pipe", 1002),
                ("d", 1003),
            ] {
                std::os::unix::fs::lchown(at(name), Some(id), Some(id)).unwrap();
            }
            std::fs::set_permissions(at(file), std::fs::Permissions::from_mode(0o6751)).unwrap();
            let device = Node::CharDevice { major: 1, minor: 5 };
            from.create_node(&"/device".into(), &device).unwrap();
        }
        let flags = rustix::fs::XattrFlags::empty();
        for name in ["d", "d/e/file"] {
            rustix::fs::setxattr(at(name), "user.mine", b"1\n2\0", flags).unwrap();
        }
        for (name, seconds) in [
            ("/d/e/file", 5),
            ("/link", 6),
            ("/pipe", 7),
            ("/d/e", 8),
            ("/d", 9),
        ] {
            let time = Timestamp { seconds, nanos: 1 };
            from.set_time(&name.into(), time).unwrap();
        }
        let before = manifest_of(&from);
        let files: Vec<(Entry, TreePath)> = before
            .entries()
            .iter()
            .map(|entry| (entry.clone(), from.join(entry.path.clone())))
            .collect();
        for (name, sharing) in [("a", Sharing::ContentOnly), ("b", Sharing::HardLink)] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            let to = TreeRoot::at(directory.path().join(name));
            copy_tree(&files, &to, is_root, sharing).unwrap();
            let after = manifest_of(&to);
            assert_eq!(before.entries(), after.entries(), "{name}");
        }
    }
}
