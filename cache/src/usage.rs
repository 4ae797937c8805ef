//! What the store holds, and the disk space it takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_graph::ImagePath;
use kiln_tree::{Measured, TreeRoot, host};
use rayon::prelude::*;

use crate::cost::Cost;
use crate::{Kind, Store, StoreError};

/// One stored thing.
#[derive(Clone, Debug)]
pub struct UsageItem {
    /// What it is.
    pub kind: Kind,
    /// Its name in the store: a digest or a key.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The disk space it takes, in bytes; files shared with things before it count there.
    pub bytes: u64,
    /// When it was last used.
    pub last_used: SystemTime,
    /// What it would cost to have it again; only looked up where things are to go.
    pub cost: Option<Cost>,
}

/// All stored things, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The things.
    pub items: Vec<UsageItem>,
    /// The disk space, in bytes, of all else in the store's directory: directories, locks, what is being
    /// made, the memory of scanned directories, the names of images.
    pub other: u64,
}

impl Usage {
    /// The disk space that things of a kind take, in bytes.
    #[must_use]
    pub fn bytes(&self, kind: Kind) -> u64 {
        self.of(kind).map(|item| item.bytes).sum()
    }

    /// How many things of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.of(kind).count()
    }

    /// The disk space of the whole store, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum::<u64>() + self.other
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &UsageItem> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

impl Store {
    /// Everything the store holds.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut places = Vec::new();
        for kind in Kind::ALL {
            let (directory, depth) = kind.place();
            let mut found = Vec::new();
            list(&self.path(directory), depth, &mut found);
            found.sort();
            places.extend(found.into_iter().map(|path| (kind, path)));
        }
        let measured: Vec<Measured> = places.par_iter().map(|(_, path)| measure(path)).collect();
        let mut seen = HashSet::new();
        let items: HashSet<&Path> = places.iter().map(|(_, path)| path.as_path()).collect();
        let other = measure_all(self.root(), &items);
        let items = places.into_iter().zip(measured);
        let items = items
            .map(|((kind, path), m)| item(kind, path, &m, &mut seen))
            .collect();
        let other = other.blocks.iter().filter(|(id, _)| seen.insert(*id));
        let other = other.map(|(_, bytes)| bytes).sum();
        Ok(Usage { items, other })
    }
}

fn item(
    kind: Kind,
    path: PathBuf,
    measured: &Measured,
    seen: &mut HashSet<(u64, u64)>,
) -> UsageItem {
    let fresh = measured.blocks.iter().filter(|(id, _)| seen.insert(*id));
    let bytes = fresh.map(|(_, bytes)| bytes).sum();
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let last_used = last_used(kind, &path);
    UsageItem {
        kind,
        name,
        path,
        bytes,
        last_used,
        cost: None,
    }
}

pub(crate) fn last_used(kind: Kind, path: &Path) -> SystemTime {
    let touched = match kind {
        Kind::Tree => path.join("manifest"),
        Kind::Volume => path.join("about"),
        _ => path.to_owned(),
    };
    let modified = host::metadata(touched).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn list(directory: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in host::read_dir(directory).into_iter().flatten().flatten() {
        match depth {
            1 => found.push(entry.path()),
            _ => list(&entry.path(), depth - 1, found),
        }
    }
}

fn measure(path: &Path) -> Measured {
    measure_all(path, &HashSet::new())
}

/// What lies at and below a path, but for some paths.
pub(crate) fn measure_all(path: &Path, but: &HashSet<&Path>) -> Measured {
    match host::symlink_metadata(path) {
        Ok(about) if about.is_dir() => {
            let skip =
                |inside: &ImagePath| !but.is_empty() && but.contains(inside.under(path).as_path());
            kiln_tree::measure(&TreeRoot::at(path), &skip)
        }
        Ok(about) => Measured {
            blocks: vec![((about.dev(), about.ino()), about.blocks() * 512)],
        },
        Err(_) => Measured::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;
    use kiln_graph::{Digest, Entry, Manifest, Node};

    /// `du` counts blocks that several names share once, as the disk does.
    #[test]
    fn all_that_the_disk_uses_and_nothing_twice() {
        let (_directory, store) = scratch_store();
        let mut first: Option<PathBuf> = None;
        for number in 0..3 {
            let staging = store.staging().unwrap();
            let shared = staging.fs().join("shared");
            match &first {
                None => std::fs::write(&shared, vec![7; 300_000]).unwrap(),
                Some(first) => std::fs::hard_link(first, &shared).unwrap(),
            }
            std::fs::write(staging.fs().join("own"), vec![number; 5000]).unwrap();
            let file = |name: &str, bytes: &[u8]| Entry {
                node: Node::File {
                    size: bytes.len() as u64,
                    digest: Digest::of(bytes),
                },
                ..Entry::directory(name.into())
            };
            let entries = vec![
                file("/own", &[number; 5000]),
                file("/shared", &[7; 300_000]),
            ];
            let tree = store
                .trees()
                .commit(staging, Manifest::new(entries))
                .unwrap();
            first = Some(tree.fs().join("shared"));
        }
        store.blobs().put(&[1; 70_000]).unwrap();
        store
            .memos()
            .put("test", &Digest::of(b"key"), &"fact")
            .unwrap();
        let usage = store.usage().unwrap();
        let du = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(store.root())
            .output()
            .unwrap();
        let said = String::from_utf8(du.stdout).unwrap();
        let said: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(usage.total(), said);
        assert!(usage.bytes(Kind::Tree) < 400_000);
    }
}
