//! Unpacks the archives of ADD.

use std::path::Path;

use kiln_graph::{CopyFiles, Entry, Node};
use kiln_image::layer::unpack as unpack_layer;
use kiln_tree::{OverlayXattrs, TreePath, TreeRoot};

use super::copy::{Changes, ROOT};
use super::place::{NewDirectory, Place};
use super::{FilesError, Selected};
use crate::view::View;

/// Unpacks a local tar archive; `false` when the file isn't one.
pub(super) fn unpack(
    source: &View,
    selected: &Selected,
    copy: &CopyFiles,
    changes: &Changes<'_>,
    place: &mut Place<'_>,
) -> Result<bool, FilesError> {
    let Some(found) = source.get(&selected.root) else {
        return Ok(false);
    };
    // Sockets of the context stand for empty files.
    if !matches!(source.linked(&found).node, Node::File { size: 1.., .. }) {
        return Ok(false);
    }
    let place_of_it = source.place(&found);
    let fail = |source| FilesError::Archive {
        name: selected.root.to_string(),
        source,
    };
    let open = || place_of_it.open_file().map_err(fail);
    if !kiln_image::layer::is_tar(open()?) {
        return Ok(false);
    }
    let beside = place.directory().path().parent().unwrap_or(Path::new("/"));
    let scratch = tempfile::tempdir_in(beside).map_err(fail)?;
    let directory = TreeRoot::at(scratch.path());
    let options = kiln_image::layer::UnpackOptions {
        xattrs: OverlayXattrs::User,
        give_away: place.gives_away(),
        whiteouts: false,
    };
    let unpacked = unpack_layer(open()?, &directory, &options).map_err(fail)?;
    let dest = place.resolve(&copy.dest, true);
    // As in BuildKit: modes are those of the archive.
    let mode = NewDirectory::default().mode;
    let new = NewDirectory {
        mode,
        ..changes.new_directory()
    };
    place.make_directories(&dest, new)?;
    for entry in unpacked.manifest.entries() {
        if unpacked.implied.contains(&entry.path) {
            continue;
        }
        let from = directory.join(entry.path.clone());
        let mut entry = entry.clone();
        if let Node::HardLink { to } = &entry.node {
            entry.node = Node::HardLink {
                to: place.resolve(&dest.join(to.relative_bytes()), false),
            };
        }
        entry.path = place.resolve(&dest.join(entry.path.relative_bytes()), false);
        if let Some(ids) = changes.owner.filter(|_| copy.owner.as_ref() != Some(&ROOT)) {
            (entry.uid, entry.gid) = ids;
        }
        put_unpacked(entry, &from, place)?;
    }
    Ok(true)
}

fn put_unpacked(entry: Entry, from: &TreePath, place: &mut Place<'_>) -> Result<(), FilesError> {
    if let Some(parent) = entry.path.parent() {
        place.make_directories(&parent, NewDirectory::default())?;
    }
    match &entry.node {
        Node::Directory { .. } => place.put_directory(entry),
        Node::File { .. } => place.put_moved(entry, from),
        Node::HardLink { to } => {
            let first = to.clone();
            place.put_link(entry, &first)
        }
        // A device by which overlayfs marks what is gone.
        Node::Whiteout => place.remove(&entry.path),
        _ => place.put_special(entry),
    }
}
