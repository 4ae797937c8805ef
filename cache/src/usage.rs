//! What the store holds, and the disk space it takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;

use crate::{Store, StoreError};

/// A kind of stored thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Results of steps and unpacked layers.
    Tree,
    /// Compressed layers, manifests, configurations.
    Blob,
    /// What steps' results were.
    Record,
    /// Small facts.
    Memo,
    /// Cache volumes.
    Volume,
    /// What steps wrote.
    Log,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Tree,
        Self::Blob,
        Self::Record,
        Self::Memo,
        Self::Volume,
        Self::Log,
    ];

    /// Its folder and how deep its things lie in it.
    pub(crate) fn place(self) -> (&'static str, u32) {
        match self {
            Self::Tree => ("trees", 2),
            Self::Blob => ("blobs/sha256", 2),
            Self::Record => ("records", 2),
            Self::Memo => ("memo", 3),
            Self::Volume => ("volumes", 1),
            Self::Log => ("logs", 1),
        }
    }

    /// Its name in the plural, for people.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Tree => "trees",
            Self::Blob => "blobs",
            Self::Record => "records",
            Self::Memo => "memos",
            Self::Volume => "volumes",
            Self::Log => "logs",
        }
    }
}

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
}

/// All stored things, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The things.
    pub items: Vec<UsageItem>,
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

    /// The disk space of all things, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &UsageItem> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

struct Measured {
    /// Device, inode and bytes of every file and folder.
    blocks: Vec<((u64, u64), u64)>,
}

impl Store {
    /// Everything the store holds.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut places = Vec::new();
        for kind in Kind::ALL {
            let (folder, depth) = kind.place();
            let mut found = Vec::new();
            list(&self.path(folder), depth, &mut found);
            found.sort();
            places.extend(found.into_iter().map(|path| (kind, path)));
        }
        let measured: Vec<Measured> = places.par_iter().map(|(_, path)| measure(path)).collect();
        let mut seen = HashSet::new();
        let items = places.into_iter().zip(measured);
        Ok(Usage {
            items: items
                .map(|((kind, path), m)| item(kind, path, &m, &mut seen))
                .collect(),
        })
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
    }
}

pub(crate) fn last_used(kind: Kind, path: &Path) -> SystemTime {
    let touched = match kind {
        Kind::Tree => path.join("manifest"),
        Kind::Volume => path.join("about"),
        _ => path.to_owned(),
    };
    let modified = std::fs::metadata(touched).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn list(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match depth {
            1 => found.push(entry.path()),
            _ => list(&entry.path(), depth - 1, found),
        }
    }
}

fn measure(path: &Path) -> Measured {
    let mut blocks = Vec::new();
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        blocks.push(((metadata.dev(), metadata.ino()), metadata.blocks() * 512));
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                blocks.extend(measure(&entry.path()).blocks);
            }
        }
    }
    Measured { blocks }
}
