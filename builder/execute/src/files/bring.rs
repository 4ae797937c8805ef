//! Brings the files of a copy to their places: by links where an earlier result has them, else as copies.

use std::fs::File;

use kiln_graph::{Entry, Node};
use kiln_tree::{Linker, TreePath, TreeRoot, set_file_attributes, timestamp};
use rayon::prelude::*;
use rustix::fs::FileType;

use super::FilesError;
use super::surroundings::Surroundings;

/// A file to be brought once its directory is there.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) from: TreePath,
}

/// Brings files to their places, in parallel.
pub(super) fn bring(jobs: &[Job], around: &Surroundings<'_>) -> Result<(), FilesError> {
    let fail = |job: &Job, source| FilesError::Io {
        action: "copy",
        path: job.entry.path.clone(),
        source,
    };
    jobs.par_iter()
        .with_min_len(16)
        .try_for_each_init(Linker::default, |linker, job| {
            bring_one(job, around, linker).map_err(|source| fail(job, source))
        })?;
    for job in jobs {
        if let Node::HardLink { to } = &job.entry.node {
            let first = around.directory.join(to.clone());
            let linked = around.directory.link(&job.entry.path, &first);
            linked.map_err(|source| fail(job, source))?;
        }
    }
    Ok(())
}

fn bring_one(job: &Job, around: &Surroundings<'_>, linker: &mut Linker) -> std::io::Result<()> {
    if matches!(job.entry.node, Node::HardLink { .. }) {
        return Ok(());
    }
    if let Some(same) = earlier_copy(&job.entry, around)
        && linker
            .link(&around.directory.join(job.entry.path.clone()), &same)
            .is_ok()
    {
        return Ok(());
    }
    let is_users = !job.from.root.path().starts_with(around.store);
    let copy = copy_file(&job.entry, &job.from, around.directory, is_users)?;
    set_file_attributes(&copy, &job.entry, around.give_away)
}

/// Copies a file to the entry's path; its attributes are to be set. A user's file may be a socket,
/// which stands for an empty file, and must still be what was hashed before.
pub(crate) fn copy_file(
    entry: &Entry,
    from: &TreePath,
    to: &TreeRoot,
    is_users: bool,
) -> std::io::Result<File> {
    if is_users
        && let Node::File { size: 0, .. } = &entry.node
        && is_socket(from)?
    {
        return to.create_file(&entry.path);
    }
    let copied = from.copy_to(to, &entry.path)?;
    if is_users {
        unchanged(entry, &copied.source)?;
    }
    Ok(copied.target)
}

fn is_socket(path: &TreePath) -> std::io::Result<bool> {
    let stat = path.root.stat(&path.path)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Whether a user's file still is what was hashed before it was copied.
fn unchanged(entry: &Entry, from: &File) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let same_size = match &entry.node {
        Node::File { size, .. } => u64::try_from(stat.st_size) == Ok(*size),
        _ => true,
    };
    if same_size && timestamp(&stat) == entry.mtime {
        return Ok(());
    }
    let text = "it changed while it was read: build again when nothing writes to it";
    Err(std::io::Error::other(text))
}

/// The same file, all attributes included, in an earlier result.
fn earlier_copy(entry: &Entry, around: &Surroundings<'_>) -> Option<TreePath> {
    let previous = around.previous.as_ref()?;
    let there = previous.manifest.get(&entry.path)?;
    (there == entry).then(|| previous.root.join(entry.path.clone()))
}
