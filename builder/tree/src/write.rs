//! Makes, links, renames things in a tree: by the parent directory's descriptor and one name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use kiln_graph::{ImagePath, Node};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, renameat, symlinkat,
};
use rustix::io::Errno;

use crate::{TreePath, TreeRoot};

/// What new files and nodes may be until they get their own mode.
const PRIVATE: u32 = 0o600;

impl TreeRoot {
    /// Makes a directory with mode 0700; its parent must be there.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_directory(&self, path: &ImagePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(mkdirat(parent, name, Mode::RWXU)?)
    }

    /// Makes a directory and those above it, as far as they are missing. Anything else that is in
    /// the way is an error.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_directories(&self, path: &ImagePath) -> io::Result<()> {
        let above = path.ancestors().skip(1);
        for directory in above.chain((!path.is_root()).then(|| path.clone())) {
            match self.create_directory(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        match self.is_directory(path) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes a new, empty file with mode 0600.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_file(&self, path: &ImagePath) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        Ok(self.open(path, flags, Mode::from_raw_mode(PRIVATE))?.into())
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_symlink(&self, path: &ImagePath, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(symlinkat(target, parent, name)?)
    }

    /// Makes a pipe, device, symbolic link or whiteout; whether it could be made: devices need
    /// more than a user namespace allows.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_node(&self, path: &ImagePath, node: &Node) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        let (kind, device) = match node {
            Node::Symlink { target } => {
                symlinkat(target.as_slice(), parent, name)?;
                return Ok(true);
            }
            Node::CharDevice { major, minor } => {
                (FileType::CharacterDevice, makedev(*major, *minor))
            }
            Node::BlockDevice { major, minor } => (FileType::BlockDevice, makedev(*major, *minor)),
            Node::Whiteout => (FileType::CharacterDevice, 0),
            Node::Fifo => (FileType::Fifo, 0),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mode = match node {
            Node::Whiteout => Mode::empty(),
            _ => Mode::from_raw_mode(PRIVATE),
        };
        match mknodat(parent, name, kind, mode, device) {
            Ok(()) => Ok(true),
            Err(Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes what a manifest's entry of this kind stands for: an empty file where a device can't be
    /// made, for then the manifest alone knows what it is, and nothing where overlayfs's mark of a
    /// removed path can't, for then overlayfs can't be used either.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_special(&self, path: &ImagePath, node: &Node) -> io::Result<()> {
        match (self.create_node(path, node)?, node) {
            (true, _) | (false, Node::Whiteout) => Ok(()),
            (false, _) => self.create_file(path).map(drop),
        }
    }

    /// Makes `path` another name of what lies at `first`, in this or another tree.
    ///
    /// # Errors
    /// What the system says.
    pub fn link(&self, path: &ImagePath, first: &TreePath) -> io::Result<()> {
        let (from, from_name) = first.root.parent(&first.path)?;
        let (to, to_name) = self.parent(path)?;
        Ok(linkat(from, from_name, to, to_name, AtFlags::empty())?)
    }

    /// Moves what lies at `path` to `to`, in this or another tree, in place of what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&self, path: &ImagePath, to: &TreePath) -> io::Result<()> {
        let (from, from_name) = self.parent(path)?;
        let (target, target_name): (OwnedFd, _) = to.root.parent(&to.path)?;
        Ok(renameat(from, from_name, target, target_name)?)
    }
}

/// Makes names of files one after the other. Directories that follow each other are looked up once.
#[derive(Debug, Default)]
pub struct Linker {
    from: Option<Parent>,
    to: Option<Parent>,
}

/// A directory that is open.
#[derive(Debug)]
struct Parent {
    root: TreeRoot,
    path: ImagePath,
    open: OwnedFd,
}

impl Linker {
    /// As [`TreeRoot::link`].
    ///
    /// # Errors
    /// What the system says.
    pub fn link(&mut self, new: &TreePath, first: &TreePath) -> io::Result<()> {
        let from = parent_of(&mut self.from, first)?;
        let to = parent_of(&mut self.to, new)?;
        let names = (first.path.file_name(), new.path.file_name());
        let (Some(from_name), Some(to_name)) = names else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(linkat(from, from_name, to, to_name, AtFlags::empty())?)
    }
}

/// The directory that a path's last name is in: the one before, when it is the same.
fn parent_of<'l>(last: &'l mut Option<Parent>, of: &TreePath) -> io::Result<&'l OwnedFd> {
    let path = of.path.parent().unwrap_or_default();
    let is_same = |last: &Parent| last.root.is(&of.root) && last.path == path;
    if !last.as_ref().is_some_and(is_same) {
        let (open, _) = of.root.parent(&of.path)?;
        let root = of.root.clone();
        *last = Some(Parent { root, path, open });
    }
    let open = last.as_ref().map(|last| &last.open);
    open.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Whatever is made below a link to the outside fails, and leaves nothing there.
    #[test]
    fn nothing_is_made_through_a_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("there"), "1").unwrap();
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("own"), "2").unwrap();
        symlink(outside.path(), tree.path().join("out")).unwrap();
        let root = TreeRoot::at(tree.path());
        let (own, below): (ImagePath, ImagePath) = ("/own".into(), "/out/new".into());
        let target = root.join(below.clone());
        let entry = kiln_graph::Entry::directory("/out/there".into());
        let tried = [
            root.create_directory(&below),
            root.create_directories(&below),
            root.create_file(&below).map(drop),
            root.create_symlink(&below, b"x"),
            root.create_special(&below, &Node::Fifo),
            root.link(&below, &root.join(own.clone())),
            root.link(&"/stolen".into(), &root.join("/out/there".into())),
            root.rename(&own, &target),
            root.rename(&"/out/there".into(), &root.join("/stolen".into())),
            root.set_attributes(&entry, false),
            root.remove(&"/out/there".into()),
            root.join(own).copy_to(&root, &below).map(drop),
            root.open_file(&"/out/there".into()).map(drop),
        ];
        for (number, done) in tried.iter().enumerate() {
            assert!(done.is_err(), "attempt {number}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(tree.path()).unwrap().count(), 2);
    }
}
