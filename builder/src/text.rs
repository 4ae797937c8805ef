//! Texts in files that the user names.

use std::path::Path;

use crate::Error;

/// The text of a file that the user names. Build files have a reader of their own, for which `-` is
/// standard input.
///
/// # Errors
/// When it can't be read.
pub fn file_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::file("read", path))
}
