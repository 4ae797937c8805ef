//! Files written into a directory of the user's.

use std::io;
use std::path::Path;

use kiln_graph::{Digest, Entry, ImagePath, Node};
use kiln_image::layer::ContentChanged;
use kiln_tree::{Progress, TreePath, TreeRoot, host};
use rustix::fs::FileType;

use crate::output_entry::OutputEntry;

/// Writes files into a directory, which is made when missing, over what an earlier output left
/// there. Links in it that were left are replaced, never followed. Files belong to the caller;
/// modes and times are the image's. A file is seen when it is whole; what an earlier output left
/// stays until then. Returns the paths of what can't be there: devices that the
/// caller may not make, and sockets.
///
/// # Errors
/// When a file can't be read or written, and what `progress` says.
pub fn write_directory(
    files: &[OutputEntry],
    directory: &Path,
    progress: Progress<'_>,
) -> io::Result<Vec<ImagePath>> {
    host::create_dir_all(directory)?;
    let root = TreeRoot::at(directory);
    let mut left_out = Vec::new();
    for (entry, place) in files.iter().filter(|(entry, _)| !entry.path.is_root()) {
        if entry.is_directory() {
            make_directory(&root, &entry.path)?;
            continue;
        }
        if !write_one(&root, entry, place, progress)? {
            left_out.push(entry.path.clone());
        }
    }
    let directories = files.iter().rev().map(|(entry, _)| entry);
    for directory in directories.filter(|entry| entry.is_directory()) {
        root.set_attributes(&plain(directory), false)?;
    }
    Ok(left_out)
}

/// Extended attributes are left out: not every file system has them, and an output is for people.
fn plain(entry: &Entry) -> Entry {
    Entry {
        xattrs: std::collections::BTreeMap::new(),
        ..entry.clone()
    }
}

fn make_directory(root: &TreeRoot, path: &ImagePath) -> io::Result<()> {
    match root.find(path)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
        Some(_) => {
            root.remove(path)?;
            root.create_directory(path)
        }
        None => root.create_directory(path),
    }
}

/// Removes a file that is in the way.
fn make_room(root: &TreeRoot, path: &ImagePath) -> io::Result<()> {
    match is_free(root, path)? {
        true => Ok(()),
        false => root.remove(path),
    }
}

/// Whether there is nothing. A directory is not thrown away for a file.
fn is_free(root: &TreeRoot, path: &ImagePath) -> io::Result<bool> {
    match root.find(path)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let text = format!("{path} is a directory there, and none in the result: remove it");
            Err(io::Error::new(io::ErrorKind::IsADirectory, text))
        }
        found => Ok(found.is_none()),
    }
}

/// Whether it could be made.
fn write_one(
    root: &TreeRoot,
    entry: &Entry,
    place: &TreePath,
    progress: Progress<'_>,
) -> io::Result<bool> {
    if let Node::File { digest, .. } = &entry.node {
        let aside = aside(&entry.path);
        let written = write_file(root, entry, *digest, (place, &aside), progress);
        written.inspect_err(|_| _ = root.remove(&aside))?;
        return Ok(true);
    }
    make_room(root, &entry.path)?;
    match &entry.node {
        Node::HardLink { to } => {
            root.link(&entry.path, &root.join(to.clone()))?;
            Ok(true)
        }
        Node::Whiteout => Ok(true),
        Node::Socket => Ok(false),
        node => {
            let made = root.create_node(&entry.path, node)?;
            if made {
                root.set_attributes(&plain(entry), false)?;
            }
            Ok(made)
        }
    }
}

/// A name beside a path for a file that isn't whole yet.
fn aside(path: &ImagePath) -> ImagePath {
    let name = format!(".kiln-{}", std::process::id());
    path.parent().unwrap_or_else(ImagePath::root).join(name)
}

fn write_file(
    root: &TreeRoot,
    entry: &Entry,
    digest: Digest,
    (place, aside): (&TreePath, &ImagePath),
    progress: Progress<'_>,
) -> io::Result<()> {
    _ = is_free(root, &entry.path)?;
    make_room(root, aside)?;
    let copied = place.copy_telling(root, aside, progress)?;
    kiln_tree::set_file_attributes(&copied.target, &plain(entry), false)?;
    if root.digest(aside).ok() != Some(digest) {
        return Err(ContentChanged(entry.path.to_string()).into());
    }
    root.rename(aside, &root.join(entry.path.clone()))
}

/// What was left out of an output, in words; nothing when nothing was.
#[must_use]
pub fn left_out_warning(left_out: &[ImagePath], directory: &Path) -> Option<String> {
    let first = left_out.first()?;
    let others = match left_out.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!(
        "{}: {first}{others} left out: only root may make device nodes, and a socket is of no use without its program; 'type=tar' keeps device nodes",
        directory.display()
    ))
}
