//! Walks a folder in parallel: the folders of a level beside each other.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kiln_graph::ImagePath;
use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::StoreError;
use crate::error::Context as _;

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

/// Something the walk found.
pub(crate) struct Found {
    pub(crate) path: ImagePath,
    pub(crate) host: PathBuf,
    pub(crate) stat: Stat,
    pub(crate) kind: FileType,
}

pub(crate) type Filter<'a> = &'a (dyn Fn(&ImagePath, bool) -> Decision + Sync);

/// Calls `visit` for everything below `folder` that `filter` takes, in no particular order, and
/// collects what it returns. Goes down level by level: a stranger's folders may be deeper than any
/// stack.
pub(crate) fn walk<T: Send>(
    folder: &Path,
    at: &ImagePath,
    filter: Filter<'_>,
    visit: Visit<'_, T>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    let mut level = vec![(folder.to_owned(), at.clone())];
    while !level.is_empty() {
        let open = |(host, path): (PathBuf, ImagePath)| one_folder(&host, &path, filter, visit);
        // A folder is work enough for a thread.
        let opened: Vec<Opened<T>> = level.into_par_iter().map(open).collect::<Result<_, _>>()?;
        level = Vec::new();
        for folder in opened {
            all.extend(folder.visited);
            level.extend(folder.below);
        }
    }
    Ok(all)
}

type Visit<'a, T> = &'a (dyn Fn(Found) -> Result<Option<T>, StoreError> + Sync);

/// What visits in one folder gave, and the folders in it.
struct Opened<T> {
    visited: Vec<T>,
    below: Vec<(PathBuf, ImagePath)>,
}

fn one_folder<T: Send>(
    host: &Path,
    path: &ImagePath,
    filter: Filter<'_>,
    visit: Visit<'_, T>,
) -> Result<Opened<T>, StoreError> {
    let is_folder = |found: &Found| found.kind == FileType::Directory;
    let (folders, files): (Vec<Found>, Vec<Found>) =
        list(host, path)?.into_iter().partition(is_folder);
    let one = |found: Found| match filter(&found.path, false) {
        Decision::Take => visit(found),
        Decision::Skip | Decision::SkipAll => Ok(None),
    };
    let visited = files.into_par_iter().with_min_len(FILES_AT_ONCE).map(one);
    let visited: Vec<Option<T>> = visited.collect::<Result<_, _>>()?;
    let mut opened = Opened {
        visited: visited.into_iter().flatten().collect(),
        below: Vec::new(),
    };
    for found in folders {
        let decision = filter(&found.path, true);
        if decision != Decision::SkipAll {
            opened.below.push((found.host.clone(), found.path.clone()));
        }
        if decision == Decision::Take {
            opened.visited.extend(visit(found)?);
        }
    }
    Ok(opened)
}

fn list(folder: &Path, at: &ImagePath) -> Result<Vec<Found>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(folder, flags, Mode::empty()).context("open the folder", folder)?;
    let mut all = Vec::new();
    for entry in Dir::read_from(&fd).context("read the folder", folder)? {
        let entry = entry.context("read the folder", folder)?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            all.extend(look(&fd, entry.file_name(), folder, at)?);
        }
    }
    Ok(all)
}

fn look(
    folder_fd: impl AsFd,
    name: &CStr,
    folder: &Path,
    at: &ImagePath,
) -> Result<Option<Found>, StoreError> {
    use std::os::unix::ffi::OsStrExt as _;
    let host = folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
    match rustix::fs::statat(folder_fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let kind = FileType::from_raw_mode(stat.st_mode);
            Ok(Some(Found {
                path: at.join(name.to_bytes()),
                host,
                stat,
                kind,
            }))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).context("look at", &host),
    }
}
