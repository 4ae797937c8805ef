//! Where things land: the tree that is being made over a base.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use kiln_graph::{Entry, ImagePath, Manifest, Node, Timestamp};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::FilesError;
use crate::view::View;

/// The mode and owner of folders that have to be made.
#[derive(Clone, Copy)]
pub(crate) struct NewFolder {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Default for NewFolder {
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
    folder: PathBuf,
    entries: BTreeMap<ImagePath, Entry>,
    opaque_xattr: &'static str,
    give_away: bool,
    now: Timestamp,
}

impl<'a> Place<'a> {
    pub(crate) fn new(
        base: &'a View,
        folder: &Path,
        opaque_xattr: &'static str,
        give_away: bool,
        now: Timestamp,
    ) -> Self {
        let entries = BTreeMap::new();
        Self {
            base,
            folder: folder.to_owned(),
            entries,
            opaque_xattr,
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
        path.ancestors().any(
            |above| match self.entries.get(&above).map(|entry| &entry.node) {
                None => false,
                Some(Node::Directory { opaque }) => *opaque,
                Some(_) => true,
            },
        )
    }

    /// A path with the links in it followed, in the base and in what was made.
    pub(crate) fn resolve(&self, path: &ImagePath, follow_last: bool) -> ImagePath {
        let mut at = ImagePath::root();
        let mut open: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = open.pop() {
            let next = at.join(&name);
            match self.get(&next).map(|entry| &entry.node) {
                Some(Node::Symlink { target })
                    if (follow_last || !open.is_empty()) && links < 255 =>
                {
                    links += 1;
                    let target = at.resolve(target);
                    open.extend(target.components().rev().map(<[u8]>::to_vec));
                    at = ImagePath::root();
                }
                _ => at = next,
            }
        }
        at
    }

    /// Makes a folder and those above it; folders that are there stay as they are.
    pub(crate) fn make_folders(
        &mut self,
        path: &ImagePath,
        new: NewFolder,
    ) -> Result<(), FilesError> {
        for folder in path
            .ancestors()
            .chain([path.clone()])
            .filter(|folder| !folder.is_root())
        {
            let there = self.get(&folder).cloned();
            match there {
                Some(entry) if entry.is_directory() => self.bring(&folder, &entry)?,
                Some(_) => {
                    return Err(FilesError::NotADirectory {
                        path: path.clone(),
                        file: folder,
                    });
                }
                None => {
                    let NewFolder { mode, uid, gid } = new;
                    let entry = Entry {
                        mode,
                        uid,
                        gid,
                        mtime: self.now,
                        ..Entry::directory(folder)
                    };
                    self.put_folder(entry)?;
                }
            }
        }
        Ok(())
    }

    /// A folder of the base must be in the tree, as it is, before anything in it can be.
    fn bring(&mut self, path: &ImagePath, entry: &Entry) -> Result<(), FilesError> {
        if self.entries.contains_key(path) {
            return Ok(());
        }
        let mut entry = entry.clone();
        entry.node = Node::Directory { opaque: false };
        self.put_folder(entry)
    }

    /// Puts a folder: a new one, or new attributes of one that is there.
    pub(crate) fn put_folder(&mut self, mut entry: Entry) -> Result<(), FilesError> {
        let path = entry.path.clone();
        let there = self.get(&path).map(|there| there.node.clone());
        let host = path.under(&self.folder);
        let replaces = matches!(&there, Some(node) if !matches!(node, Node::Directory { .. }));
        let made = match self.entries.get(&path).map(|own| &own.node) {
            Some(Node::Directory { opaque }) => {
                entry.node = Node::Directory { opaque: *opaque };
                Ok(())
            }
            Some(_) => {
                entry.node = Node::Directory {
                    opaque: self.base_has(&path),
                };
                std::fs::remove_file(&host).and_then(|()| std::fs::create_dir(&host))
            }
            None => {
                entry.node = Node::Directory { opaque: replaces };
                std::fs::create_dir(&host)
            }
        };
        made.map_err(|source| FilesError::Io {
            action: "make the folder",
            path: path.clone(),
            source,
        })?;
        if entry.node == (Node::Directory { opaque: true }) {
            let done = rustix::fs::lsetxattr(&host, self.opaque_xattr, b"y", XattrFlags::empty());
            done.map_err(|e| FilesError::Io {
                action: "mark the folder",
                path: path.clone(),
                source: e.into(),
            })?;
        }
        self.finish(entry)
    }

    fn base_has(&self, path: &ImagePath) -> bool {
        self.base.get(path).is_some()
    }

    /// Makes room at a path for something that is no folder.
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
        let host = path.under(&self.folder);
        let is_folder = std::fs::symlink_metadata(&host).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder {
            std::fs::remove_dir_all(&host)
        } else {
            std::fs::remove_file(&host)
        };
        removed.map_err(|source| FilesError::Io {
            action: "replace",
            path: path.clone(),
            source,
        })?;
        for gone in own {
            self.entries.remove(&gone);
        }
        Ok(())
    }

    /// Puts something that is no folder: `make` makes it at a host path.
    pub(crate) fn put(
        &mut self,
        entry: Entry,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), FilesError> {
        self.clear(&entry.path)?;
        let host = entry.path.under(&self.folder);
        make(&host).map_err(|source| FilesError::Io {
            action: "write",
            path: entry.path.clone(),
            source,
        })?;
        self.finish(entry)
    }

    /// Puts a special file or a symbolic link.
    pub(crate) fn put_special(&mut self, entry: Entry) -> Result<(), FilesError> {
        let node = entry.node.clone();
        self.put(entry, |host| make_special(&node, host))
    }

    /// Notes something that was made at its place already, with all its attributes.
    pub(crate) fn note(&mut self, entry: Entry) {
        self.entries.insert(entry.path.clone(), entry);
    }

    /// Removes what is at a path.
    pub(crate) fn remove(&mut self, path: &ImagePath) -> Result<(), FilesError> {
        self.clear(path)?;
        if self.base.get(path).is_none() || self.hides(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_folders(&parent, NewFolder::default())?;
        }
        make_whiteout(&path.under(&self.folder)).map_err(|source| FilesError::Io {
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

    /// Where a path lies on the host.
    pub(crate) fn host(&self, path: &ImagePath) -> PathBuf {
        path.under(&self.folder)
    }

    pub(crate) fn gives_away(&self) -> bool {
        self.give_away
    }

    fn finish(&mut self, entry: Entry) -> Result<(), FilesError> {
        let host = entry.path.under(&self.folder);
        set_attributes(&entry, &host, self.give_away).map_err(|source| FilesError::Io {
            action: "set the attributes of",
            path: entry.path.clone(),
            source,
        })?;
        self.note(entry);
        Ok(())
    }

    /// The finished tree's entries. Folders get their times, which their content has changed.
    pub(crate) fn into_manifest(self) -> Result<Manifest, FilesError> {
        for entry in self
            .entries
            .values()
            .rev()
            .filter(|entry| entry.is_directory())
        {
            set_time(&entry.path.under(&self.folder), entry.mtime).map_err(|source| {
                FilesError::Io {
                    action: "set the time of",
                    path: entry.path.clone(),
                    source,
                }
            })?;
        }
        Ok(self.entries.into_values().collect())
    }
}

/// Makes overlayfs's mark of a removed path. Where it can't be made overlayfs can't be used either,
/// and the manifest alone says that the path is gone.
pub(crate) fn make_whiteout(host: &Path) -> io::Result<()> {
    match rustix::fs::mknodat(CWD, host, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

fn make_special(node: &Node, host: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let (kind, device) = match node {
        Node::Symlink { target } => return symlink(std::ffi::OsStr::from_bytes(target), host),
        Node::CharDevice { major, minor } => (
            FileType::CharacterDevice,
            rustix::fs::makedev(*major, *minor),
        ),
        Node::BlockDevice { major, minor } => {
            (FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
        }
        _ => (FileType::Fifo, 0),
    };
    match rustix::fs::mknodat(CWD, host, kind, Mode::from_raw_mode(0o600), device) {
        // A user namespace makes no devices: the manifest alone knows what it is.
        Err(rustix::io::Errno::PERM) => std::fs::File::create_new(host).map(drop),
        other => Ok(other?),
    }
}

/// Gives a file its owner, mode, xattrs and time. Owner first: changing it takes setuid bits away.
pub(crate) fn set_attributes(entry: &Entry, host: &Path, give_away: bool) -> io::Result<()> {
    if give_away {
        lchown(host, Some(entry.uid), Some(entry.gid))?;
    }
    if !matches!(entry.node, Node::Symlink { .. }) {
        std::fs::set_permissions(host, Permissions::from_mode(entry.mode))?;
    }
    for (name, value) in &entry.xattrs {
        match rustix::fs::lsetxattr(host, name.as_slice(), value, XattrFlags::empty()) {
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) if !give_away => {}
            other => other?,
        }
    }
    set_time(host, entry.mtime)
}

fn set_time(host: &Path, time: Timestamp) -> io::Result<()> {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(
        CWD,
        host,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
