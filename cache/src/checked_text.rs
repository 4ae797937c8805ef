//! Small JSON documents behind a line with their digest.

use std::path::Path;

use kiln_graph::Digest;
use kiln_tree::host;

use crate::StoreError;
use crate::error::Context as _;

const PREFIX: &str = "kiln-memo 1 ";

/// A document with its digest before it.
pub(crate) fn checked(json: &str) -> String {
    format!("{PREFIX}{}\n{json}", Digest::of(json.as_bytes()))
}

/// The document in a file; `None` when it isn't there, or isn't what its digest says.
pub(crate) fn read_checked(path: &Path) -> Result<Option<String>, StoreError> {
    let mut text = match host::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("read", path),
    };
    let Some((head, json)) = text.split_once('\n') else {
        return Ok(None);
    };
    if head.strip_prefix(PREFIX) != Some(&Digest::of(json.as_bytes()).to_string()) {
        return Ok(None);
    }
    let start = head.len() + 1;
    Ok(Some(text.split_off(start)))
}
