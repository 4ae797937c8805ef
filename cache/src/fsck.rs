//! Looks for damage: every stored thing against the digest it is named by.

use std::path::PathBuf;

use kiln_tree::{host, remove_all};
use rayon::prelude::*;

use crate::damage::problem;
use crate::lock::Mode;
use crate::staging::rename;
use crate::{Kind, Store, StoreError, UsageItem};

/// Something that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub kind: Kind,
    /// Where it lies.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct FsckReport {
    /// How many things were looked at.
    pub checked: usize,
    /// Those that are damaged.
    pub damaged: Vec<Damage>,
}

impl Store {
    /// Looks at everything; with `repair`, removes what is damaged, so that it is made or fetched
    /// again when it is needed.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        let items = self.usage()?.items;
        let damage = |item: &UsageItem| {
            let reason = problem(item.kind, &item.path)?;
            Some(Damage {
                kind: item.kind,
                path: item.path.clone(),
                reason,
            })
        };
        let (names, bad_names) = self.image_damage();
        let mut damaged: Vec<Damage> = items.par_iter().filter_map(damage).collect();
        damaged.extend(bad_names);
        let report = FsckReport {
            checked: items.len() + names,
            damaged,
        };
        if repair {
            let _alone = self.gc_lock(Mode::Exclusive)?;
            for damage in &report.damaged {
                let grave = self.temp_path();
                rename(&damage.path, &grave)?;
                remove_all(&grave);
            }
            self.0.in_use.clear();
        }
        Ok(report)
    }

    /// The number of names of images, and those that can't be read.
    fn image_damage(&self) -> (usize, Vec<Damage>) {
        let entries = host::read_dir(self.path("images"));
        let paths: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let whole = |path: &PathBuf| matches!(crate::checked_text::read_checked(path), Ok(Some(_)));
        let damage = |path: &PathBuf| Damage {
            kind: Kind::Record,
            path: path.clone(),
            reason: "its checksum is wrong: the image has lost this name, tag it again".to_owned(),
        };
        let damaged = paths.iter().filter(|path| !whole(path)).map(damage);
        (paths.len(), damaged.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;
    use kiln_graph::{Digest, Entry, Manifest, Node};
    use std::path::Path;

    fn flip(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_flipped_bit_in_each_kind_of_file_is_found_and_removed() {
        let (_directory, store) = scratch_store();
        let commit = |content: &[u8]| {
            let staging = store.staging().unwrap();
            std::fs::write(staging.fs().join("a"), content).unwrap();
            let node = Node::File {
                size: content.len() as u64,
                digest: Digest::of(content),
            };
            let entry = Entry {
                node,
                ..Entry::directory("/a".into())
            };
            store
                .trees()
                .commit(staging, Manifest::new(vec![entry]))
                .unwrap()
        };
        let (tree, other) = (commit(b"1"), commit(b"2"));
        let blob = store.blobs().put(b"blob").unwrap();
        let key = Digest::of(b"key");
        store.memos().put("test", &key, &"fact").unwrap();
        assert_eq!(store.fsck(false).unwrap().damaged, []);
        flip(&tree.fs().join("a"));
        flip(&other.fs().parent().unwrap().join("manifest"));
        flip(&blob.path);
        flip(&store.sharded("memo/test", &key.to_string()));
        let report = store.fsck(true).unwrap();
        let mut kinds: Vec<Kind> = report.damaged.iter().map(|damage| damage.kind).collect();
        kinds.sort();
        assert_eq!(kinds, [Kind::Tree, Kind::Tree, Kind::Blob, Kind::Memo]);
        assert_eq!(store.fsck(false).unwrap().damaged, []);
        assert!(store.trees().get(&tree.id()).unwrap().is_none());
    }
}
