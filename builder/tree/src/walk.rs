//! Walks a directory in parallel: the directories of a level beside each other.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use kiln_graph::{ImagePath, Timestamp};
use rayon::prelude::*;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::error::Context as _;
use crate::read::{hold_in, names_in, open_held, stat_in};
use crate::xattr::{self, Xattrs};
use crate::{TreeError, TreeRoot};

/// How many files one thread looks at before another may help.
const FILES_AT_ONCE: usize = 64;

/// What to do with a path that the walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is part of the result.
    Take,
    /// It is not, but something below it may be.
    Skip,
    /// Neither it nor anything below it is.
    SkipAll,
}

/// Something the walk found: a name of an open directory, as it was looked at.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where it is.
    pub path: ImagePath,
    /// What was seen of it.
    pub stat: Stat,
    /// What it is.
    pub kind: FileType,
    directory: BorrowedFd<'a>,
}

impl Found<'_> {
    fn hold(&self) -> io::Result<OwnedFd> {
        Ok(hold_in(
            self.directory,
            self.path.file_name().unwrap_or(b"."),
        )?)
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// When it can't be, or something else has taken its place.
    pub fn open(&self) -> io::Result<File> {
        open_held(&self.hold()?)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// When it can't be read, or something else has taken its place.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        let name = self.path.file_name().unwrap_or(b".");
        let target = rustix::fs::readlinkat(self.directory, name, Vec::new())?;
        Ok(target.into_bytes())
    }

    /// The extended attributes whose names `wanted` takes; `open` is the file when it is open.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn xattrs(
        &self,
        open: Option<&File>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Xattrs> {
        match open {
            Some(file) => xattr::all(file, wanted),
            None => xattr::all(&self.hold()?, wanted),
        }
    }
}

/// The modification time.
#[must_use]
pub fn timestamp(stat: &Stat) -> Timestamp {
    Timestamp {
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

type Filter<'a> = &'a (dyn Fn(&ImagePath, bool) -> Decision + Sync);

/// What is made of each thing found.
pub type Visit<'a, T> = &'a (dyn Fn(&Found<'_>) -> Result<Option<T>, TreeError> + Sync);

/// Calls `visit` for everything below the directory `at` that `filter` takes, in no particular
/// order, and collects what it returns. Goes down level by level: a stranger's directories may be
/// deeper than any stack.
///
/// # Errors
/// When a directory can't be read, a path is longer than the system takes, or `visit` fails.
pub fn walk<T: Send>(
    root: &TreeRoot,
    at: &ImagePath,
    filter: Filter<'_>,
    visit: Visit<'_, T>,
) -> Result<Vec<T>, TreeError> {
    let mut all = Vec::new();
    let mut level = vec![at.clone()];
    while !level.is_empty() {
        let one = |path: ImagePath| one_directory(root, &path, filter, visit);
        // A directory is work enough for a thread.
        let opened: Vec<Opened<T>> = level.into_par_iter().map(one).collect::<Result<_, _>>()?;
        level = Vec::new();
        for directory in opened {
            all.extend(directory.visited);
            level.extend(directory.below);
        }
    }
    Ok(all)
}

impl TreeRoot {
    /// Visits what lies at one path, a link itself; nothing where there is nothing.
    ///
    /// # Errors
    /// When it can't be looked at, or `visit` fails.
    pub fn visit<T>(
        &self,
        path: &ImagePath,
        visit: impl FnOnce(&Found<'_>) -> Result<T, TreeError>,
    ) -> Result<Option<T>, TreeError> {
        let (parent, name) = match self.parent(path) {
            Ok(found) => found,
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                    _ => Err(error).context("look at", self.path(), path),
                };
            }
        };
        match stat_in(&parent, name) {
            Ok(stat) => visit(&Found {
                path: path.clone(),
                kind: FileType::from_raw_mode(stat.st_mode),
                stat,
                directory: parent.as_fd(),
            })
            .map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).context("look at", self.path(), path),
        }
    }
}

/// What visits in one directory gave, and the directories in it.
pub(crate) struct Opened<T> {
    pub(crate) visited: Vec<T>,
    pub(crate) below: Vec<ImagePath>,
}

pub(crate) fn one_directory<T: Send>(
    root: &TreeRoot,
    path: &ImagePath,
    filter: Filter<'_>,
    visit: Visit<'_, T>,
) -> Result<Opened<T>, TreeError> {
    let open = root.open_directory(path);
    let open = open.context("open the directory", root.path(), path)?;
    let is_directory = |found: &Found<'_>| found.kind == FileType::Directory;
    let (directories, files): (Vec<Found<'_>>, Vec<Found<'_>>) =
        list(root, &open, path)?.into_iter().partition(is_directory);
    let one = |found: Found<'_>| match filter(&found.path, false) {
        Decision::Take => visit(&found),
        Decision::Skip | Decision::SkipAll => Ok(None),
    };
    let visited = files.into_par_iter().with_min_len(FILES_AT_ONCE).map(one);
    let visited: Vec<Option<T>> = visited.collect::<Result<_, _>>()?;
    let mut opened = Opened {
        visited: visited.into_iter().flatten().collect(),
        below: Vec::new(),
    };
    for found in directories {
        let decision = filter(&found.path, true);
        if decision != Decision::SkipAll {
            opened.below.push(found.path.clone());
        }
        if decision == Decision::Take {
            opened.visited.extend(visit(&found)?);
        }
    }
    Ok(opened)
}

fn list<'a>(
    root: &TreeRoot,
    directory: &'a OwnedFd,
    at: &ImagePath,
) -> Result<Vec<Found<'a>>, TreeError> {
    let names = names_in(directory).context("read the directory", root.path(), at)?;
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let path = at.join(&name);
        match stat_in(directory, &name) {
            Ok(stat) => all.push(Found {
                path,
                kind: FileType::from_raw_mode(stat.st_mode),
                stat,
                directory: directory.as_fd(),
            }),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).context("look at", root.path(), &path),
        }
    }
    Ok(all)
}
