//! Cache volumes: `volumes/<blake3 of name>/` with `about` (in the form of `memo`) and one directory
//! `<number>/` for each copy: number 0 is the one that `shared` and `locked` steps use, `private`
//! ones take the first that nobody holds. A held copy's lock is `locks/volume/<digest>-<number>`.
//!
//! Where nothing can be mounted, a copy is moved into the root of a step and back; meanwhile
//! `away/<digest>-<number>` (in the form of `memo`) says where it is.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::{Digest, ImagePath};
use kiln_tree::{TreeRoot, host, remove_all};
use serde::{Deserialize, Serialize};

use crate::checked_text::read_checked;
use crate::error::Context as _;
use crate::lock::{Lock, Mode, Stop};
use crate::staging::rename;
use crate::volume_away::{AWAY, Away, bring_back};
use crate::{Staging, Store, StoreError, pending};

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

/// A volume's directory, held for one step.
#[derive(Debug)]
pub struct Volume {
    root: TreeRoot,
    store: Store,
    /// What says where it is while it is moved away.
    away: PathBuf,
    _lock: Lock,
}

impl Drop for Volume {
    fn drop(&mut self) {
        bring_back(&self.store, &self.away, self.root.path());
    }
}

impl Volume {
    /// The directory to be mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Takes note that the volume's directory is about to be moved, to somewhere below `root` in a
    /// staging directory of this store: if it isn't moved back, the next who wants it does that.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn lend(&mut self, root: &Path) -> Result<(), StoreError> {
        let about = self.root.stat(&ImagePath::root());
        let about = about.context("look at", self.root.path())?;
        let note = Away {
            root: root.to_owned(),
            inode: about.st_ino,
        };
        self.store.put_checked(&self.away, &note)
    }

    /// The same, to be read: steps that share the volume may change it at any moment.
    #[must_use]
    pub fn root(&self) -> &TreeRoot {
        &self.root
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

/// The volumes of a store; [`Store::volumes`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Volumes<'a>(&'a Store);

impl Store {
    /// Its volumes.
    #[must_use]
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes(self)
    }
}

impl Volumes<'_> {
    fn directory(&self, name: &str) -> PathBuf {
        self.0
            .path("volumes")
            .join(Digest::of(name.as_bytes()).to_string())
    }

    /// Takes a volume for one step. Waits while the sharing wants it. One that isn't there yet is
    /// made aside: `begin` gives its directory an owner, a mode and files, and nobody sees it before
    /// it is whole. Whoever takes several takes them in the order of their names, so that no two wait
    /// for each other.
    ///
    /// # Errors
    /// When the store can't be written, `begin` fails, or `stop` ends the waiting.
    pub fn take<E: From<StoreError>>(
        &self,
        name: &str,
        sharing: VolumeSharing,
        stop: Stop<'_>,
        begin: impl FnOnce(&Staging) -> Result<(), E>,
    ) -> Result<Volume, E> {
        let directory = self.directory(name);
        let (number, lock) = self.hold(name, sharing, stop)?;
        let copy = directory.join(number.to_string());
        let away = self.away_path(name, number);
        bring_back(self.0, &away, &copy);
        if !host::exists(&copy) {
            // Steps that share it would else fill it each.
            let _alone = self.lock_making(name, stop)?;
            if !host::exists(&copy) {
                let staging = self.0.staging()?;
                begin(&staging)?;
                self.place(&staging, &copy)?;
            }
        }
        self.note_use(name, &directory)?;
        Ok(Volume {
            root: TreeRoot::at(copy),
            store: self.0.clone(),
            away,
            _lock: lock,
        })
    }

    fn away_path(&self, name: &str, number: u32) -> PathBuf {
        let digest = Digest::of(name.as_bytes());
        self.0.path(AWAY).join(format!("{digest}-{number}"))
    }

    /// Brings back the volumes that processes which have died had moved away. To be done before
    /// what the dead left is removed.
    pub(crate) fn bring_back(&self) -> Result<(), StoreError> {
        for entry in host::read_dir(self.0.path(AWAY))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some((digest, number)) = name.to_str().and_then(|name| name.rsplit_once('-'))
            else {
                continue;
            };
            let lock = self.0.path("locks/volume").join(&name);
            if let Some(_lock) = Lock::try_acquire(&lock, Mode::Exclusive)? {
                let directory = self.0.path("volumes").join(digest).join(number);
                bring_back(self.0, &entry.path(), &directory);
            }
        }
        Ok(())
    }

    /// A volume that is there, for nobody else to use meanwhile. Waits until no step uses it.
    ///
    /// # Errors
    /// When the store can't be written, or `stop` ends the waiting.
    pub fn take_alone(&self, name: &str, stop: Stop<'_>) -> Result<Option<Volume>, StoreError> {
        let (number, lock) = self.hold(name, VolumeSharing::Locked, stop)?;
        let copy = self.directory(name).join(number.to_string());
        let away = self.away_path(name, number);
        bring_back(self.0, &away, &copy);
        Ok(host::exists(&copy).then(|| Volume {
            root: TreeRoot::at(copy),
            store: self.0.clone(),
            away,
            _lock: lock,
        }))
    }

    /// Makes a staged directory a copy of a volume, in place of the one that is there.
    fn place(&self, staging: &Staging, copy: &Path) -> Result<(), StoreError> {
        let is_filled = staging.root().names(&ImagePath::root());
        if is_filled.is_ok_and(|names| !names.is_empty()) {
            pending::mark(self.0, copy)?;
        }
        let directory = copy.parent().unwrap_or(Path::new("/"));
        host::create_dir_all(directory).context("create the volume", directory)?;
        if host::exists(copy) {
            // What was there is removed with the rest of the staging.
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            let cwd = rustix::fs::CWD;
            let done = rustix::fs::renameat_with(cwd, staging.fs(), cwd, copy, exchange);
            match done {
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    rename(copy, &staging.directory().join("grave"))?;
                }
                other => return other.context("move into place", copy),
            }
        }
        rename(staging.fs(), copy)
    }

    /// Whether a step has used a volume of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        host::exists(self.directory(name).join("0"))
    }

    /// The volume of this name, or of this name with a key (`NAME@KEY`), that was used last.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn newest(&self, name: &str) -> Result<Option<String>, StoreError> {
        let is_of = |info: &VolumeInfo| {
            let rest = info.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        };
        let found = self.all()?.into_iter().filter(is_of);
        Ok(found
            .max_by_key(|info| info.last_used)
            .map(|info| info.name))
    }

    /// Keeps others from looking for the same volume, and so from filling it twice.
    ///
    /// # Errors
    /// When the lock's file can't be used, or `stop` ends the waiting.
    pub fn lock_search(&self, name: &str, stop: Stop<'_>) -> Result<Lock, StoreError> {
        let digest = Digest::of(name.as_bytes());
        let path = self.0.path("locks/volume").join(format!("{digest}-search"));
        Lock::acquire_until(&path, Mode::Exclusive, stop)
    }

    /// Makes a directory the content of a volume, in place of what it had.
    ///
    /// # Errors
    /// When the store can't be written. Waits until no step uses the volume, or `stop` ends that.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a staging directory is used up"
    )]
    pub fn replace(&self, name: &str, staging: Staging, stop: Stop<'_>) -> Result<(), StoreError> {
        let (number, _alone) = self.hold(name, VolumeSharing::Locked, stop)?;
        let directory = self.directory(name);
        self.place(&staging, &directory.join(number.to_string()))?;
        self.note_use(name, &directory)
    }

    fn lock_making(&self, name: &str, stop: Stop<'_>) -> Result<Lock, StoreError> {
        let digest = Digest::of(name.as_bytes());
        let path = self.0.path("locks/volume").join(format!("{digest}-making"));
        Lock::acquire_until(&path, Mode::Exclusive, stop)
    }

    /// Holds all copies of the volume in `volumes/<digest>`, so that it can be removed; nothing when
    /// a step uses one.
    pub(crate) fn hold_copies(&self, digest: &str) -> Result<Option<Vec<Lock>>, StoreError> {
        let lock = |what: &str| {
            let path = self.0.path("locks/volume").join(format!("{digest}-{what}"));
            Lock::try_acquire(&path, Mode::Exclusive)
        };
        let mut held = Vec::new();
        let copies = host::read_dir(self.0.path("volumes").join(digest));
        let copies = copies.into_iter().flatten().flatten();
        let names = copies.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let numbers = names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        for what in ["making".to_owned(), "0".to_owned()]
            .into_iter()
            .chain(numbers.filter(|n| n != "0"))
        {
            match lock(&what)? {
                Some(lock) => held.push(lock.removing()),
                None => return Ok(None),
            }
        }
        Ok(Some(held))
    }

    fn hold(
        &self,
        name: &str,
        sharing: VolumeSharing,
        stop: Stop<'_>,
    ) -> Result<(u32, Lock), StoreError> {
        let digest = Digest::of(name.as_bytes());
        let path = |number: u32| {
            self.0
                .path("locks/volume")
                .join(format!("{digest}-{number}"))
        };
        let first = |mode| Ok((0, Lock::acquire_until(&path(0), mode, stop)?));
        match sharing {
            VolumeSharing::Shared => first(Mode::Shared),
            VolumeSharing::Locked => first(Mode::Exclusive),
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

    fn note_use(&self, name: &str, directory: &Path) -> Result<(), StoreError> {
        let about = directory.join("about");
        let uses = read_about(&about)?.map_or(0, |info| info.uses);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let last_used = now.as_secs();
        self.0.put_checked(
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
    pub fn all(&self) -> Result<Vec<VolumeInfo>, StoreError> {
        let mut volumes = Vec::new();
        for entry in host::read_dir(self.0.path("volumes"))
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
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let digest = Digest::of(name.as_bytes()).to_string();
        let directory = self.directory(name);
        let Some(_held) = self.hold_copies(&digest)? else {
            return Ok(false);
        };
        let aside = self.0.temp_path();
        if host::rename(&directory, &aside).is_err() {
            return Ok(false);
        }
        remove_all(&aside);
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
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt as _;

    fn locked(store: &Store) -> Volume {
        let none = |_: &Staging| Ok::<(), StoreError>(());
        store
            .volumes()
            .take("v", VolumeSharing::Locked, &|| true, none)
            .unwrap()
    }

    #[test]
    fn what_was_moved_away_comes_back() {
        let (_directory, store) = scratch_store();
        let staging = store.staging().unwrap();
        let mut volume = locked(&store);
        let home = volume.path().to_owned();
        std::fs::write(home.join("kept"), "x").unwrap();
        volume.lend(staging.fs()).unwrap();
        let (deep, away) = (staging.fs().join("a/b"), staging.fs().join("a/b/c"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::rename(&home, &away).unwrap();
        // As if the process had died.
        std::mem::forget(volume);
        let note = store.volumes().away_path("v", 0);
        assert!(note.exists());
        bring_back(&store, &note, &home);
        assert!(home.join("kept").exists() && !note.exists());
        std::mem::forget(staging);
    }

    #[test]
    fn volumes_come_home_before_the_dead_are_removed() {
        let (_directory, store) = scratch_store();
        let volume = locked(&store);
        let home = volume.path().to_owned();
        drop(volume);
        std::fs::write(home.join("kept"), "x").unwrap();
        let dead = store.path("wide/1-1/0/fs");
        std::fs::create_dir_all(&dead).unwrap();
        let note = Away {
            root: dead.clone(),
            inode: std::fs::metadata(&home).unwrap().ino(),
        };
        store
            .put_checked(&store.volumes().away_path("v", 0), &note)
            .unwrap();
        std::fs::rename(&home, dead.join("cache")).unwrap();
        Store::open(store.root(), crate::Options::default()).unwrap();
        assert!(home.join("kept").exists() && !dead.exists());
    }

    #[test]
    fn sharing_modes() {
        let (_directory, store) = scratch_store();
        let made = Cell::new(0);
        let take = |sharing| {
            let count = |_: &Staging| {
                made.set(made.get() + 1);
                Ok::<(), StoreError>(())
            };
            store.volumes().take("v", sharing, &|| true, count).unwrap()
        };
        let a = take(VolumeSharing::Shared);
        let b = take(VolumeSharing::Shared);
        assert_eq!(made.get(), 1);
        assert_eq!(a.path(), b.path());
        let other = take(VolumeSharing::Private);
        assert_ne!(a.path(), other.path());
        assert!(!store.volumes().remove("v").unwrap(), "in use");
        drop((a, b, other));
        let locked = take(VolumeSharing::Locked);
        let lock = store
            .path("locks/volume")
            .join(format!("{}-0", Digest::of(b"v")));
        assert!(Lock::try_acquire(&lock, Mode::Shared).unwrap().is_none());
        drop(locked);
        assert_eq!(store.volumes().all().unwrap()[0].uses, 4);
        assert!(store.volumes().remove("v").unwrap());
        assert!(store.volumes().all().unwrap().is_empty());
    }

    /// A volume whose filling fails, or ends with its process, isn't there: the next step fills it.
    #[test]
    fn no_half_volume_is_seen() {
        let (_directory, store) = scratch_store();
        let half = |staging: &Staging| {
            std::fs::write(staging.fs().join("first"), "1").unwrap();
            Err(StoreError::NoHome)
        };
        let failed = store
            .volumes()
            .take("v", VolumeSharing::Shared, &|| true, half);
        assert!(failed.is_err() && !store.volumes().has("v"));
        assert!(store.volumes().take_alone("v", &|| true).unwrap().is_none());
        let whole = |staging: &Staging| {
            assert!(!staging.fs().join("first").exists());
            std::fs::write(staging.fs().join("all"), "2").unwrap();
            assert!(!store.volumes().has("v"), "it is filled aside");
            Ok::<(), StoreError>(())
        };
        drop(
            store
                .volumes()
                .take("v", VolumeSharing::Shared, &|| true, whole)
                .unwrap(),
        );
        let filled = store.volumes().take_alone("v", &|| true).unwrap().unwrap();
        let names = filled.root().names(&ImagePath::root()).unwrap();
        assert_eq!(names, [b"all"]);
        drop(filled);
        let staging = store.staging().unwrap();
        std::fs::write(staging.fs().join("new"), "3").unwrap();
        store.volumes().replace("v", staging, &|| true).unwrap();
        let filled = store.volumes().take_alone("v", &|| true).unwrap().unwrap();
        assert_eq!(filled.root().names(&ImagePath::root()).unwrap(), [b"new"]);
    }

    #[test]
    fn what_a_step_uses_is_not_pruned() {
        let (_directory, store) = scratch_store();
        let none = |_: &Staging| Ok::<(), StoreError>(());
        let first = store
            .volumes()
            .take("v", VolumeSharing::Private, &|| true, none)
            .unwrap();
        let second = store
            .volumes()
            .take("v", VolumeSharing::Private, &|| true, none)
            .unwrap();
        drop(first);
        let all = crate::PruneOptions {
            all: true,
            ..crate::PruneOptions::default()
        };
        store.prune(&all).unwrap();
        assert!(second.path().exists());
        drop(second);
        store.prune(&all).unwrap();
        assert!(store.volumes().all().unwrap().is_empty());
    }
}
