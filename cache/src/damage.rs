//! What is wrong with stored things.

use std::path::Path;

use kiln_graph::{Digest, TreeId};
use kiln_tree::{TreeRoot, host};
use rayon::prelude::*;

use crate::kind::Kind;
use crate::sha256::sha256_of;

/// What is wrong with a stored thing, in words.
pub(crate) fn problem(kind: Kind, path: &Path) -> Option<String> {
    match kind {
        Kind::Tree => tree_problem(path),
        Kind::Blob => blob_problem(path),
        Kind::Record | Kind::Memo => match crate::checked_text::read_checked(path) {
            Ok(Some(_)) => None,
            Ok(None) => Some("its checksum is wrong".to_owned()),
            Err(error) => Some(error.to_string()),
        },
        // What steps keep in volumes, and wrote to logs, has no digest.
        Kind::Volume | Kind::Log => None,
    }
}

fn tree_problem(path: &Path) -> Option<String> {
    let Ok(id) = name(path).parse::<Digest>() else {
        return Some("its name is no digest".to_owned());
    };
    let bytes = host::read(path.join("manifest")).unwrap_or_default();
    let Some(manifest) = crate::manifest_file::read_of(&bytes, &TreeId(id)) else {
        return Some("its manifest is damaged".to_owned());
    };
    let root = TreeRoot::at(path.join("fs"));
    let entries = manifest.entries().par_iter();
    entries.find_map_any(|entry| root.difference(entry))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn blob_problem(path: &Path) -> Option<String> {
    let actual = sha256_of(path);
    match actual {
        Ok(actual) if actual.hex() == name(path) => None,
        Ok(_) => Some("its content changed".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
