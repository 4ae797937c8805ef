//! Whose a store may be: its user's only. The owner of a directory finds set-user-ID programs of
//! images in it, and the owner of one above it can exchange it for a link.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kiln_tree::host;
use rustix::process::geteuid;

use crate::OverlayXattrs;
use crate::StoreError;
use crate::error::Context as _;

/// Refuses a store that another user owns; for the machine's root also one below a directory of
/// another user. Nothing is changed before.
pub(crate) fn check(root: &Path, xattrs: OverlayXattrs) -> Result<(), StoreError> {
    let own = geteuid().as_raw();
    let there = nearest(root);
    let there = host::canonicalize(there).context("look at", there)?;
    for (above, directory) in there.ancestors().enumerate() {
        let is_store = above == 0 && host::exists(root);
        // In a user namespace the machine's root isn't seen as who it is.
        if !is_store && xattrs == OverlayXattrs::User {
            break;
        }
        let owner = host::metadata(directory)
            .context("look at", directory)?
            .uid();
        if owner != own && (is_store || owner != 0) {
            return Err(StoreError::OfAnother {
                store: root.to_owned(),
                directory: directory.to_owned(),
                owner,
            });
        }
    }
    Ok(())
}

/// The store, or what is there of the path to it.
fn nearest(root: &Path) -> &Path {
    let mut all = root.ancestors();
    let found = all.find(|directory| host::symlink_metadata(directory).is_ok());
    found.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(root: &Path) -> bool {
        let checked = check(root, OverlayXattrs::Trusted);
        matches!(checked, Err(StoreError::OfAnother { .. }))
    }

    #[test]
    fn stores_of_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(!refused(&at("new/deep")) && !refused(directory.path()));
        if !geteuid().is_root() {
            return;
        }
        std::fs::create_dir_all(at("his/mine")).unwrap();
        std::os::unix::fs::symlink("his", at("link")).unwrap();
        std::os::unix::fs::chown(at("his"), Some(1234), None).unwrap();
        for name in ["his", "his/new", "his/mine", "link", "link/mine/new"] {
            assert!(refused(&at(name)), "{name}");
        }
    }
}
