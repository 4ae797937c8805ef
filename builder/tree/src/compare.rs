//! Compares what lies in a tree with what its manifest says.

use kiln_graph::{Entry, Node};
use rustix::fs::FileType;

use crate::TreeRoot;

impl TreeRoot {
    /// In what the tree is not what an entry says, in words.
    #[must_use]
    pub fn difference(&self, entry: &Entry) -> Option<String> {
        let path = &entry.path;
        let Ok(stat) = self.stat(path) else {
            // Where overlayfs's marks can't be made the manifest alone has them.
            let may_miss = entry.node == Node::Whiteout;
            return (!may_miss).then(|| format!("{path} is missing"));
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        match &entry.node {
            Node::File { size, digest } => {
                let same = u64::try_from(stat.st_size) == Ok(*size)
                    && self.digest(path).is_ok_and(|actual| actual == *digest);
                (!same).then(|| format!("the content of {path} changed"))
            }
            Node::Symlink { target } => {
                let same = self.read_link(path).is_ok_and(|actual| actual == *target);
                (!same).then(|| format!("the link {path} changed"))
            }
            Node::Directory { .. } if kind != FileType::Directory => {
                Some(format!("{path} is no longer a directory"))
            }
            Node::HardLink { .. } if kind != FileType::RegularFile => {
                Some(format!("{path} is no longer a file"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Digest;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_kind_of_change_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = TreeRoot::at(directory.path());
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("f"), "1").unwrap();
        symlink("f", at("l")).unwrap();
        let entry = |path: &str, node: Node| Entry {
            node,
            ..Entry::directory(path.into())
        };
        let file = |bytes: &[u8]| Node::File {
            size: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let directory = Node::Directory { opaque: false };
        let link = |target: &str| Node::Symlink {
            target: target.into(),
        };
        let cases = [
            ("/d", directory.clone(), None),
            ("/f", file(b"1"), None),
            ("/l", link("f"), None),
            ("/gone", Node::Whiteout, None),
            ("/f", directory, Some("/f is no longer a directory")),
            ("/f", file(b"2"), Some("the content of /f changed")),
            ("/f", file(b"12"), Some("the content of /f changed")),
            ("/l", file(b"1"), Some("the content of /l changed")),
            ("/l", link("g"), Some("the link /l changed")),
            ("/f", link("f"), Some("the link /f changed")),
            ("/none", file(b""), Some("/none is missing")),
        ];
        for (path, node, want) in cases {
            let found = root.difference(&entry(path, node));
            assert_eq!(found.as_deref(), want, "{path}");
        }
    }
}
