//! How the trees of a store say what they hide: the file `overlay`, `trusted` or `user` and a line end.
//!
//! The machine's root marks directories with `trusted.overlay.*`, which nobody else sees, and whoever
//! works in a user namespace with `user.overlay.*`. A mount knows one of the two: with the other it would
//! show files that a tree hides. So a store is of one kind.

use std::io::ErrorKind;
use std::path::Path;

use kiln_tree::{OverlayXattrs, host};

use crate::StoreError;
use crate::error::Context as _;

const FILE: &str = "overlay";

/// Refuses a store of the other kind; one that doesn't say is this kind's from now on.
pub(crate) fn check(root: &Path, xattrs: OverlayXattrs) -> Result<(), StoreError> {
    let path = root.join(FILE);
    let text = match host::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.context("read", &path)?,
    };
    let own = name(xattrs);
    match text.trim_end() {
        known if known == own => Ok(()),
        "trusted" | "user" => Err(StoreError::OtherMarks {
            store: root.to_owned(),
            by_root: own == "user",
        }),
        // A power cut may have emptied it.
        _ => {
            let write = |file: &mut std::fs::File| {
                std::io::Write::write_all(file, format!("{own}\n").as_bytes())
            };
            host::replace(&path, write).context("write", &path)
        }
    }
}

fn name(xattrs: OverlayXattrs) -> &'static str {
    match xattrs {
        OverlayXattrs::Trusted => "trusted",
        OverlayXattrs::User => "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_of_one_kind() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |xattrs| match check(directory.path(), xattrs) {
            Err(StoreError::OtherMarks { by_root, .. }) => Some(by_root),
            other => other.map(|()| None).unwrap(),
        };
        let (root, user) = (OverlayXattrs::Trusted, OverlayXattrs::User);
        assert_eq!(refused(root), None);
        assert_eq!((refused(user), refused(root)), (Some(true), None));
        std::fs::write(directory.path().join(FILE), "").unwrap();
        assert_eq!(refused(user), None, "emptied by a power cut");
        assert_eq!((refused(root), refused(user)), (Some(false), None));
    }
}
