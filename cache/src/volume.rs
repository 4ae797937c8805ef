//! Cache volumes: `volumes/<blake3 of name>/` with `about` (in the form of `memo`) and one folder
//! `<number>/` for each copy: number 0 is the one that `shared` and `locked` steps use, `private`
//! ones take the first that nobody holds. A held copy's lock is `locks/volume/<digest>-<number>`.

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
    _lock: Lock,
}

impl Volume {
    /// The folder to be mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
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
            _lock: lock,
        })
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

fn read_about(path: &Path) -> Result<Option<VolumeInfo>, StoreError> {
    Ok(read_checked(path)?.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

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
