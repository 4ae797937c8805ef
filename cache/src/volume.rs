//! Cache volumes: `volumes/<blake3 of name>/` with `about` (in the form of `memo`) and one folder
//! `<number>/` for each copy: number 0 is the one that `shared` and `locked` steps use, `private`
//! ones take the first that nobody holds. A held copy's lock is `locks/volume/<digest>-<number>`.
//!
//! Where nothing can be mounted, a copy is moved into the root of a step and back; meanwhile
//! `away/<digest>-<number>` (in the form of `memo`) says where it is.

use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::Digest;
use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::lock::{Lock, Mode};
use crate::memo::read_checked;
use crate::staging::{remove_tree, rename};
use crate::{Staging, Store, StoreError};

/// How a volume is shared by steps that want it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeSharing {
    /// All at once.
    Shared,
    /// Each its own copy.
    Private,
    /// One after the other.
    Locked,
}

/// A volume's folder, held for one step.
#[derive(Debug)]
pub struct Volume {
    folder: PathBuf,
    is_new: bool,
    store: Store,
    /// What says where it is while it is moved away.
    away: PathBuf,
    _lock: Lock,
}

impl Drop for Volume {
    fn drop(&mut self) {
        bring_back(&self.store, &self.away, &self.folder);
    }
}

impl Volume {
    /// The folder to be mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Takes note that the volume's folder is about to be moved, to somewhere below `root` in a
    /// staging folder of this store: if it isn't moved back, the next who wants it does that.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn lend(&mut self, root: &Path) -> Result<(), StoreError> {
        let about = std::fs::symlink_metadata(&self.folder).context("look at", &self.folder)?;
        let note = Away {
            root: root.to_owned(),
            inode: about.ino(),
        };
        self.store.put_checked(&self.away, &note)
    }

    /// Whether nobody has used it before: it is empty, and its owner and mode are to be set.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// When a step last used it, in seconds since 1970.
    pub last_used: u64,
    /// How many steps have used it.
    pub uses: u64,
}

impl Store {
    fn volume_folder(&self, name: &str) -> PathBuf {
        self.path("volumes")
            .join(Digest::of(name.as_bytes()).to_string())
    }

    /// Takes a volume for one step, making it when there is none. Waits while the sharing wants it.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn volume(&self, name: &str, sharing: VolumeSharing) -> Result<Volume, StoreError> {
        let folder = self.volume_folder(name);
        let (number, lock) = self.hold_volume(name, sharing)?;
        let copy = folder.join(number.to_string());
        let away = self.away_path(name, number);
        bring_back(self, &away, &copy);
        let is_new =
            match std::fs::create_dir_all(&folder).and_then(|()| std::fs::create_dir(&copy)) {
                Ok(()) => true,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error).context("create the volume", &copy),
            };
        self.note_use(name, &folder)?;
        Ok(Volume {
            folder: copy,
            is_new,
            store: self.clone(),
            away,
            _lock: lock,
        })
    }

    fn away_path(&self, name: &str, number: u32) -> PathBuf {
        let digest = Digest::of(name.as_bytes());
        self.path(AWAY).join(format!("{digest}-{number}"))
    }

    /// Brings back the volumes that processes which have died had moved away. To be done before
    /// what the dead left is removed.
    pub(crate) fn bring_back_volumes(&self) -> Result<(), StoreError> {
        for entry in std::fs::read_dir(self.path(AWAY))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some((digest, number)) = name.to_str().and_then(|name| name.rsplit_once('-'))
            else {
                continue;
            };
            let lock = self.path("locks/volume").join(&name);
            if let Some(_lock) = Lock::try_acquire(&lock, Mode::Exclusive)? {
                let folder = self.path("volumes").join(digest).join(number);
                bring_back(self, &entry.path(), &folder);
            }
        }
        Ok(())
    }

    /// Whether a step has used a volume of this name.
    #[must_use]
    pub fn has_volume(&self, name: &str) -> bool {
        self.volume_folder(name).join("0").exists()
    }

    /// The volume of this name, or of this name with a key (`NAME@KEY`), that was used last.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn newest_volume(&self, name: &str) -> Result<Option<String>, StoreError> {
        let is_of = |info: &VolumeInfo| {
            let rest = info.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        };
        let found = self.volumes()?.into_iter().filter(is_of);
        Ok(found
            .max_by_key(|info| info.last_used)
            .map(|info| info.name))
    }

    /// Keeps others from looking for the same volume, and so from filling it twice.
    ///
    /// # Errors
    /// When the lock's file can't be used.
    pub fn lock_volume_search(&self, name: &str) -> Result<Lock, StoreError> {
        let digest = Digest::of(name.as_bytes());
        let path = self.path("locks/volume").join(format!("{digest}-search"));
        Lock::acquire(&path, Mode::Exclusive)
    }

    /// Makes a folder the content of a volume, in place of what it had.
    ///
    /// # Errors
    /// When the store can't be written. Waits until no step uses the volume.
    #[expect(clippy::needless_pass_by_value, reason = "a staging folder is used up")]
    pub fn replace_volume(&self, name: &str, staging: Staging) -> Result<(), StoreError> {
        let (_, _alone) = self.hold_volume(name, VolumeSharing::Locked)?;
        let folder = self.volume_folder(name);
        std::fs::create_dir_all(&folder).context("create the volume", &folder)?;
        let (copy, grave) = (folder.join("0"), self.temp_path());
        if copy.exists() {
            rename(&copy, &grave)?;
        }
        rename(staging.fs(), &copy)?;
        remove_tree(&grave);
        self.note_use(name, &folder)
    }

    fn hold_volume(&self, name: &str, sharing: VolumeSharing) -> Result<(u32, Lock), StoreError> {
        let digest = Digest::of(name.as_bytes());
        let path = |number: u32| self.path("locks/volume").join(format!("{digest}-{number}"));
        match sharing {
            VolumeSharing::Shared => Ok((0, Lock::acquire(&path(0), Mode::Shared)?)),
            VolumeSharing::Locked => Ok((0, Lock::acquire(&path(0), Mode::Exclusive)?)),
            VolumeSharing::Private => {
                let mut number = 0;
                loop {
                    if let Some(lock) = Lock::try_acquire(&path(number), Mode::Exclusive)? {
                        return Ok((number, lock));
                    }
                    number += 1;
                }
            }
        }
    }

    fn note_use(&self, name: &str, folder: &Path) -> Result<(), StoreError> {
        let about = folder.join("about");
        let uses = read_about(&about)?.map_or(0, |info| info.uses);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let last_used = now.as_secs();
        self.put_checked(
            &about,
            &VolumeInfo {
                name: name.to_owned(),
                last_used,
                uses: uses + 1,
            },
        )
    }

    /// All volumes, sorted by name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, StoreError> {
        let mut volumes = Vec::new();
        for entry in std::fs::read_dir(self.path("volumes"))
            .into_iter()
            .flatten()
            .flatten()
        {
            volumes.extend(read_about(&entry.path().join("about"))?);
        }
        volumes.sort_by(|a: &VolumeInfo, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume with all its copies, unless a step uses it; whether it was removed.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn remove_volume(&self, name: &str) -> Result<bool, StoreError> {
        let digest = Digest::of(name.as_bytes());
        let folder = self.volume_folder(name);
        let mut locks = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let lock = self.path("locks/volume");
            let lock = lock.join(format!("{digest}-{}", entry.file_name().to_string_lossy()));
            match Lock::try_acquire(&lock, Mode::Exclusive)? {
                Some(lock) => locks.push(lock.removing()),
                None => return Ok(false),
            }
        }
        let aside = self.temp_path();
        if std::fs::rename(&folder, &aside).is_err() {
            return Ok(false);
        }
        remove_tree(&aside);
        Ok(true)
    }
}

/// Notes of volumes that are moved away.
const AWAY: &str = "away";

/// Where a volume's folder is while it is moved away.
#[derive(Debug, Serialize, Deserialize)]
struct Away {
    /// Somewhere below this folder.
    root: PathBuf,
    /// The folder's own number on its file system.
    inode: u64,
}

/// Moves a volume's folder back that was moved away, and forgets that it was.
fn bring_back(store: &Store, note: &Path, folder: &Path) {
    let Ok(Some(text)) = read_checked(note) else {
        return;
    };
    if !folder.exists()
        && let Ok(away) = serde_json::from_str::<Away>(&text)
        && away.root.starts_with(store.root())
        && let Some(found) = find(&away.root, away.inode)
    {
        _ = std::fs::rename(found, folder);
    }
    _ = std::fs::remove_file(note);
}

/// The folder below `root` that has this number, no link followed.
fn find(root: &Path, inode: u64) -> Option<PathBuf> {
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.ino() == inode {
                return Some(entry.path());
            }
            open.push(entry.path());
        }
    }
    None
}

fn read_about(path: &Path) -> Result<Option<VolumeInfo>, StoreError> {
    Ok(read_checked(path)?.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn what_was_moved_away_comes_back() {
        let (_folder, store) = scratch_store();
        let staging = store.staging().unwrap();
        let mut volume = store.volume("v", VolumeSharing::Locked).unwrap();
        let home = volume.path().to_owned();
        std::fs::write(home.join("kept"), "x").unwrap();
        volume.lend(staging.fs()).unwrap();
        let (deep, away) = (staging.fs().join("a/b"), staging.fs().join("a/b/c"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::rename(&home, &away).unwrap();
        // As if the process had died.
        std::mem::forget(volume);
        let note = store.away_path("v", 0);
        assert!(note.exists());
        bring_back(&store, &note, &home);
        assert!(home.join("kept").exists() && !note.exists());
        std::mem::forget(staging);
    }

    #[test]
    fn volumes_come_home_before_the_dead_are_removed() {
        let (_folder, store) = scratch_store();
        let volume = store.volume("v", VolumeSharing::Locked).unwrap();
        let home = volume.path().to_owned();
        drop(volume);
        std::fs::write(home.join("kept"), "x").unwrap();
        let dead = store.path("wide/1-1/0/fs");
        std::fs::create_dir_all(&dead).unwrap();
        let note = Away {
            root: dead.clone(),
            inode: std::fs::metadata(&home).unwrap().ino(),
        };
        store.put_checked(&store.away_path("v", 0), &note).unwrap();
        std::fs::rename(&home, dead.join("cache")).unwrap();
        Store::open(store.root(), crate::Options::default()).unwrap();
        assert!(home.join("kept").exists() && !dead.exists());
    }

    #[test]
    fn sharing_modes() {
        let (_folder, store) = scratch_store();
        let a = store.volume("v", VolumeSharing::Shared).unwrap();
        let b = store.volume("v", VolumeSharing::Shared).unwrap();
        assert!(a.is_new() && !b.is_new());
        assert_eq!(a.path(), b.path());
        let other = store.volume("v", VolumeSharing::Private).unwrap();
        assert_ne!(a.path(), other.path());
        assert!(!store.remove_volume("v").unwrap(), "in use");
        drop((a, b, other));
        let locked = store.volume("v", VolumeSharing::Locked).unwrap();
        let lock = store
            .path("locks/volume")
            .join(format!("{}-0", Digest::of(b"v")));
        assert!(Lock::try_acquire(&lock, Mode::Shared).unwrap().is_none());
        drop(locked);
        assert_eq!(store.volumes().unwrap()[0].uses, 4);
        assert!(store.remove_volume("v").unwrap());
        assert!(store.volumes().unwrap().is_empty());
    }
}
