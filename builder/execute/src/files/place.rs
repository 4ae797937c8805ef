//! Where things land: the tree that is being made over a base.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use kiln_graph::{Entry, ImagePath, Manifest, Node, Timestamp, follow};
use kiln_tree::{OverlayXattrs, TreePath, TreeRoot, set_file_attributes};

use super::FilesError;
use crate::view::View;

/// The mode and owner of directories that have to be made.
#[derive(Clone, Copy)]
pub(crate) struct NewDirectory {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Default for NewDirectory {
    fn default() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }
}

/// A tree being made over a base.
pub(crate) struct Place<'a> {
    base: &'a View,
    directory: &'a TreeRoot,
    entries: BTreeMap<ImagePath, Entry>,
    /// The other names of files that have several, by their first ones.
    links: BTreeMap<ImagePath, BTreeSet<ImagePath>>,
    xattrs: OverlayXattrs,
    give_away: bool,
    now: Timestamp,
}

impl<'a> Place<'a> {
    pub(crate) fn new(
        base: &'a View,
        directory: &'a TreeRoot,
        xattrs: OverlayXattrs,
        give_away: bool,
        now: Timestamp,
    ) -> Self {
        let entries = BTreeMap::new();
        Self {
            base,
            directory,
            entries,
            links: BTreeMap::new(),
            xattrs,
            give_away,
            now,
        }
    }

    /// What is at a path now.
    pub(crate) fn get(&self, path: &ImagePath) -> Option<&Entry> {
        match self.entries.get(path) {
            Some(entry) if entry.node == Node::Whiteout => None,
            Some(entry) => Some(entry),
            None if self.hides(path) => None,
            None => self.base.get(path).map(|found| found.entry),
        }
    }

    fn hides(&self, path: &ImagePath) -> bool {
        // All directories above what was put were put as well.
        let above = path.ancestors().skip(1);
        above
            .map_while(|above| self.entries.get(&above))
            .any(Entry::hides_below)
    }

    /// A path with the links in it followed, in the base and in what was made.
    pub(crate) fn resolve(&self, path: &ImagePath, follow_last: bool) -> ImagePath {
        follow(path, follow_last, |path| self.get(path))
    }

    /// Makes a directory and those above it; directories that are there stay as they are.
    pub(crate) fn make_directories(
        &mut self,
        path: &ImagePath,
        new: NewDirectory,
    ) -> Result<(), FilesError> {
        let mut hidden = false;
        let own = (!path.is_root()).then(|| path.clone());
        for directory in path.ancestors().skip(1).chain(own) {
            let there = match self.entries.get(&directory) {
                Some(entry) => Some(entry).filter(|entry| entry.node != Node::Whiteout),
                None if hidden => None,
                None => self.base.get(&directory).map(|found| found.entry),
            };
            match there.cloned() {
                Some(entry) if entry.is_directory() => self.bring(&directory, &entry)?,
                Some(_) => {
                    return Err(FilesError::NotADirectory {
                        path: path.clone(),
                        file: directory,
                    });
                }
                None => {
                    let NewDirectory { mode, uid, gid } = new;
                    let entry = Entry {
                        mode,
                        uid,
                        gid,
                        mtime: self.now,
                        ..Entry::directory(directory.clone())
                    };
                    self.put_directory_over(entry, None)?;
                }
            }
            hidden |= self.entries.get(&directory).is_some_and(Entry::hides_below);
        }
        Ok(())
    }

    /// A directory of the base must be in the tree, as it is, before anything in it can be.
    fn bring(&mut self, path: &ImagePath, entry: &Entry) -> Result<(), FilesError> {
        if self.entries.contains_key(path) {
            return Ok(());
        }
        let mut entry = entry.clone();
        entry.node = Node::Directory { opaque: false };
        let there = entry.node.clone();
        self.put_directory_over(entry, Some(&there))
    }

    /// Puts a directory: a new one, or new attributes of one that is there.
    pub(crate) fn put_directory(&mut self, entry: Entry) -> Result<(), FilesError> {
        let there = self.get(&entry.path).map(|there| there.node.clone());
        self.put_directory_over(entry, there.as_ref())
    }

    /// Puts a directory where `there` is shown now.
    fn put_directory_over(
        &mut self,
        mut entry: Entry,
        there: Option<&Node>,
    ) -> Result<(), FilesError> {
        let path = entry.path.clone();
        let replaces = there.is_some_and(|node| !matches!(node, Node::Directory { .. }));
        let made = match self.entries.get(&path).map(|own| &own.node) {
            Some(Node::Directory { opaque }) => {
                entry.node = Node::Directory { opaque: *opaque };
                Ok(())
            }
            Some(_) => {
                entry.node = Node::Directory {
                    opaque: self.base_has(&path),
                };
                let removed = remove(self.directory, &path);
                removed.and_then(|()| self.directory.create_directory(&path))
            }
            None => {
                entry.node = Node::Directory { opaque: replaces };
                self.directory.create_directory(&path)
            }
        };
        made.map_err(|source| FilesError::Io {
            action: "make the directory",
            path: path.clone(),
            source,
        })?;
        if entry.node == (Node::Directory { opaque: true }) {
            let done = self.directory.mark_opaque(&path, self.xattrs);
            done.map_err(|source| FilesError::Io {
                action: "mark the directory",
                path: path.clone(),
                source,
            })?;
        }
        self.finish(entry)
    }

    fn base_has(&self, path: &ImagePath) -> bool {
        self.base.get(path).is_some()
    }

    /// Makes room at a path for something that is no directory.
    pub(crate) fn clear(&mut self, path: &ImagePath) -> Result<(), FilesError> {
        let own: Vec<ImagePath> = self
            .entries
            .range(path.clone()..)
            .map(|(below, _)| below.clone())
            .take_while(|below| below.starts_with(path))
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        remove(self.directory, path).map_err(|source| FilesError::Io {
            action: "replace",
            path: path.clone(),
            source,
        })?;
        for gone in own {
            self.forget(&gone);
        }
        Ok(())
    }

    /// Takes an entry out. The other names of a file that goes stay names of one file.
    fn forget(&mut self, path: &ImagePath) {
        let Some(gone) = self.entries.remove(path) else {
            return;
        };
        if let Node::HardLink { to } = &gone.node {
            if let Some(names) = self.links.get_mut(to) {
                names.remove(path);
            }
            return;
        }
        let mut names = self.links.remove(path).unwrap_or_default();
        let Some(first) = names.pop_first() else {
            return;
        };
        let other = |name| (name, Node::HardLink { to: first.clone() });
        for (name, node) in names.iter().map(other).chain([(&first, gone.node)]) {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.node = node;
            }
        }
        self.links.insert(first, names);
    }

    /// Puts a file with some content.
    pub(crate) fn put_file(&mut self, entry: Entry, content: &[u8]) -> Result<(), FilesError> {
        self.clear(&entry.path)?;
        let written = self
            .directory
            .create_file(&entry.path)
            .and_then(|mut file| {
                file.write_all(content)?;
                set_file_attributes(&file, &entry, self.give_away)
            });
        self.made(entry, "write", written)
    }

    /// Puts a special file or a symbolic link.
    pub(crate) fn put_special(&mut self, entry: Entry) -> Result<(), FilesError> {
        self.clear(&entry.path)?;
        let made = self.directory.create_special(&entry.path, &entry.node);
        let made = made.and_then(|()| self.directory.set_attributes(&entry, self.give_away));
        self.made(entry, "write", made)
    }

    /// Puts a file that lies in another tree of this step's: it is moved.
    pub(crate) fn put_moved(&mut self, entry: Entry, from: &TreePath) -> Result<(), FilesError> {
        self.clear(&entry.path)?;
        let target = self.directory.join(entry.path.clone());
        let moved = from.root.rename(&from.path, &target);
        let moved = moved.and_then(|()| self.directory.set_attributes(&entry, self.give_away));
        self.made(entry, "write", moved)
    }

    /// Makes a path another name of a file that was put before.
    pub(crate) fn put_link(&mut self, entry: Entry, first: &ImagePath) -> Result<(), FilesError> {
        self.clear(&entry.path)?;
        let first = self.directory.join(first.clone());
        let linked = self.directory.link(&entry.path, &first);
        self.made(entry, "link", linked)
    }

    fn made(
        &mut self,
        entry: Entry,
        action: &'static str,
        made: io::Result<()>,
    ) -> Result<(), FilesError> {
        made.map_err(|source| FilesError::Io {
            action,
            path: entry.path.clone(),
            source,
        })?;
        self.note(entry);
        Ok(())
    }

    /// Gives a directory that was made here another time.
    pub(crate) fn set_time(&mut self, path: &ImagePath, time: Timestamp) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.mtime = time;
        }
    }

    /// Notes something that was made at its place already, with all its attributes.
    pub(crate) fn note(&mut self, entry: Entry) {
        if let Node::HardLink { to } = &entry.node {
            let names = self.links.entry(to.clone()).or_default();
            names.insert(entry.path.clone());
        }
        self.entries.insert(entry.path.clone(), entry);
    }

    /// Removes what is at a path.
    pub(crate) fn remove(&mut self, path: &ImagePath) -> Result<(), FilesError> {
        self.clear(path)?;
        if self.base.get(path).is_none() || self.hides(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_directories(&parent, NewDirectory::default())?;
        }
        let made = self.directory.create_special(path, &Node::Whiteout);
        made.map_err(|source| FilesError::Io {
            action: "remove",
            path: path.clone(),
            source,
        })?;
        let entry = Entry {
            mode: 0,
            node: Node::Whiteout,
            ..Entry::directory(path.clone())
        };
        self.note(entry);
        Ok(())
    }

    /// The tree being made.
    pub(crate) fn directory(&self) -> &'a TreeRoot {
        self.directory
    }

    pub(crate) fn gives_away(&self) -> bool {
        self.give_away
    }

    fn finish(&mut self, entry: Entry) -> Result<(), FilesError> {
        let set = self.directory.set_attributes(&entry, self.give_away);
        self.made(entry, "set the attributes of", set)
    }

    /// The finished tree's entries. Directories get their times, which their content has changed.
    pub(crate) fn into_manifest(self) -> Result<Manifest, FilesError> {
        for entry in self
            .entries
            .values()
            .rev()
            .filter(|entry| entry.is_directory())
        {
            let set = self.directory.set_time(&entry.path, entry.mtime);
            set.map_err(|source| FilesError::Io {
                action: "set the time of",
                path: entry.path.clone(),
                source,
            })?;
        }
        Ok(self.entries.into_values().collect())
    }
}

/// Removes what was made before. A whiteout may be in the manifest alone.
fn remove(directory: &TreeRoot, path: &ImagePath) -> io::Result<()> {
    match directory.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
