//! Where a single file lands.

use kiln_graph::{Entry, ImagePath};

use super::FilesError;
use super::place::{NewDirectory, Place};

/// Where a single file lands, with the directories above it made: in the directory that the destination is or must be, else at it. Links
/// in the destination are followed; one in the directory that has the file's name is replaced, as in
/// BuildKit.
pub(super) fn destination(
    place: &mut Place<'_>,
    dest: &ImagePath,
    to_directory: bool,
    name: &[u8],
    new: NewDirectory,
) -> Result<ImagePath, FilesError> {
    let dest = place.resolve(dest, true);
    let is_directory = dest.is_root() || place.get(&dest).is_some_and(Entry::is_directory);
    let path = if to_directory || is_directory {
        dest.join(name)
    } else {
        dest
    };
    if let Some(parent) = path.parent() {
        place.make_directories(&parent, new)?;
    }
    Ok(path)
}
