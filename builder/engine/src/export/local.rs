//! Files written into a directory of the user's.

use std::io;
use std::path::Path;

use kiln_graph::{Entry, ImagePath, Node};
use kiln_image::layer::ContentChanged;
use kiln_tree::TreeRoot;
use kiln_tree::host;
use rustix::fs::FileType;

use crate::export::output::OutputEntry;

/// Writes files into a directory, which is made when missing, over what an earlier output left
/// there. Links in it that were left are replaced, never followed. Files belong to the caller;
/// modes and times are the image's. Returns the paths of what can't be there: devices that the
/// caller may not make, and sockets.
///
/// # Errors
/// When a file can't be read or written.
pub fn write_folder(files: &[OutputEntry], folder: &Path) -> io::Result<Vec<ImagePath>> {
    host::create_dir_all(folder)?;
    let root = TreeRoot::at(folder);
    let mut left_out = Vec::new();
    for (entry, place) in files.iter().filter(|(entry, _)| !entry.path.is_root()) {
        if entry.is_directory() {
            make_directory(&root, &entry.path)?;
            continue;
        }
        make_room(&root, &entry.path)?;
        if !write_one(&root, entry, place)? {
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

/// Removes a file that is in the way; a directory is not thrown away for a file.
fn make_room(root: &TreeRoot, path: &ImagePath) -> io::Result<()> {
    match root.find(path)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(io::ErrorKind::IsADirectory.into())
        }
        Some(_) => root.remove(path),
        None => Ok(()),
    }
}

/// Whether it could be made.
fn write_one(root: &TreeRoot, entry: &Entry, place: &kiln_tree::TreePath) -> io::Result<bool> {
    match &entry.node {
        Node::File { digest, .. } => {
            let copied = place.copy_to(root, &entry.path)?;
            kiln_tree::set_file_attributes(&copied.target, &plain(entry), false)?;
            if root.digest(&entry.path).ok() != Some(*digest) {
                return Err(ContentChanged(entry.path.to_string()).into());
            }
            Ok(true)
        }
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

/// What was left out of an output, in words; nothing when nothing was.
#[must_use]
pub fn left_out_warning(left_out: &[ImagePath], folder: &Path) -> Option<String> {
    let first = left_out.first()?;
    let others = match left_out.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!(
        "{}: {first}{others} left out: only root may make device nodes, and a socket is of no use without its program; 'type=tar' keeps device nodes",
        folder.display()
    ))
}
