//! Walks a folder in parallel, one thread a subfolder.

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
/// collects what it returns.
pub(crate) fn walk<T: Send>(
    folder: &Path,
    at: &ImagePath,
    filter: Filter<'_>,
    visit: &(dyn Fn(Found) -> Result<Option<T>, StoreError> + Sync),
) -> Result<Vec<T>, StoreError> {
    let is_folder = |found: &Found| found.kind == FileType::Directory;
    let (folders, files): (Vec<Found>, Vec<Found>) =
        list(folder, at)?.into_iter().partition(is_folder);
    let visit_one = |found| one(found, filter, visit);
    // A folder is work enough for a thread, a file isn't.
    let (below, all) = rayon::join(
        || collect(folders.into_par_iter().map(visit_one)),
        || {
            collect(
                files
                    .into_par_iter()
                    .with_min_len(FILES_AT_ONCE)
                    .map(visit_one),
            )
        },
    );
    let mut all = all?;
    all.extend(below?);
    Ok(all)
}

fn collect<T: Send>(
    parts: impl ParallelIterator<Item = Result<Vec<T>, StoreError>>,
) -> Result<Vec<T>, StoreError> {
    let parts: Vec<Vec<T>> = parts.collect::<Result<_, _>>()?;
    Ok(parts.into_iter().flatten().collect())
}

fn one<T: Send>(
    found: Found,
    filter: Filter<'_>,
    visit: &(dyn Fn(Found) -> Result<Option<T>, StoreError> + Sync),
) -> Result<Vec<T>, StoreError> {
    let is_directory = found.kind == FileType::Directory;
    let decision = filter(&found.path, is_directory);
    let (host, path) = (found.host.clone(), found.path.clone());
    let mut all = Vec::new();
    if decision == Decision::Take {
        all.extend(visit(found)?);
    }
    if is_directory && decision != Decision::SkipAll {
        all.extend(walk(&host, &path, filter, visit)?);
    }
    Ok(all)
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
