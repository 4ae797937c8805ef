//! The store: one directory, format 1.
//!
//! ```text
//! version                     the text "kiln-store 1\n"
//! overlay                     how trees say what they hide (see `marks`)
//! trees/<2 hex>/<tree id>/    fs/ (a directory overlayfs can mount) and manifest (its entries)
//! blobs/sha256/<2 hex>/<hex>  layer blobs, manifests and configurations of images
//! records/<2 hex>/<step key>  what a step's result was (see `record`)
//! memo/<kind>/<2 hex>/<digest> small facts that are costly to find again (see `memo`)
//! images/<escaped name>       tagged images (see `image_record`)
//! mounts/<id>/                images that are mounted (see `mount_record`)
//! volumes/<digest of name>/   cache volumes (see `volume`)
//! away/<digest>-<number>      where a volume is that is moved into a step's root (see `volume`)
//! stat/<digest>               digests of unchanged source files (see `scan::stat_cache`)
//! builds/<id>                 what happened in the latest builds (see `build_record`)
//! logs/<build>/<step>         what steps wrote
//! locks/                      lock files: steps, volumes, owners of things being made, collection
//! sessions/                   one locked file for each running build
//! pending/<boot id>/          what may be lost by a power cut (see `pending`)
//! private-key                 32 random bytes that hash what must not be guessed (see
//!                             `Store::private_digest`); readable by its owner only
//! wide/                       trees being made (see `staging`)
//! tmp/                        things being made; dead ones are removed
//! ```
//!
//! What holds it together:
//! - Nothing is visible until it is whole: it is made in `tmp/` and renamed. A `kill -9` leaves
//!   at most garbage there. A power cut can lose or empty what wasn't on the disk yet: such
//!   things are marked in `pending/` beforehand, and dropped at the next start of the machine.
//! - A stored thing never changes. Its name is its content's digest, or its key's.
//! - Whoever uses a thing touches its time while holding the collection lock shared; the
//!   collector holds it exclusively and leaves alone all that was touched since the oldest
//!   running session began.
//! - A damaged or missing record is a cache miss, never a failure.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use kiln_graph::{Digest, ImagePath, StepKey};
use kiln_tree::{OverlayXattrs, host};

use crate::StoreError;
use crate::error::Context as _;
use crate::in_use::InUse;
use crate::lock::{Lock, Mode, Stop};
use crate::manifest_cache::ManifestCache;
use crate::process_owner::Owner;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where overlayfs keeps its marks for this user.
    pub xattrs: OverlayXattrs,
    /// Is told, in words, what takes a while.
    pub notice: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            xattrs: OverlayXattrs::default(),
            notice: |_| {},
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    options: Options,
    boot: String,
    pub(crate) manifests: ManifestCache,
    pub(crate) in_use: InUse,
    stopped: AtomicBool,
    /// The directory for this process's stagings, once there is one.
    pub(crate) wide: OnceLock<PathBuf>,
    /// What this process's things are named after.
    pub(crate) owner: OnceLock<Owner>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(wide) = self.wide.get() {
            _ = host::remove_dir(wide);
        }
    }
}

/// An open store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

impl Store {
    /// The store in a directory that was looked at, in this boot of the machine.
    pub(crate) fn at(root: PathBuf, options: Options, boot: String) -> Self {
        Self(Arc::new(Inner {
            root,
            options,
            boot,
            manifests: ManifestCache::default(),
            in_use: InUse::default(),
            stopped: AtomicBool::new(false),
            wide: OnceLock::new(),
            owner: OnceLock::new(),
        }))
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where overlayfs keeps its marks.
    #[must_use]
    pub fn xattrs(&self) -> OverlayXattrs {
        self.0.options.xattrs
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn boot(&self) -> &str {
        &self.0.boot
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.0.root.join(part)
    }

    /// `<part>/<first two digits>/<digest>`.
    pub(crate) fn sharded(&self, part: &str, hex: &str) -> PathBuf {
        let mut path = self.path(part);
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    pub(crate) fn stat_cache_path(&self, directory: &Path, roots: &[ImagePath]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let mut name = directory.as_os_str().as_bytes().to_vec();
        for root in roots {
            name.push(0);
            name.extend_from_slice(root.relative_bytes());
        }
        self.path("stat").join(Digest::of(&name).to_string())
    }

    /// Waits until no other thread or process runs the step, and keeps them from it.
    ///
    /// # Errors
    /// When the lock's file can't be used.
    pub fn lock_step(&self, key: &StepKey, stop: Stop<'_>) -> Result<Lock, StoreError> {
        let path = self.sharded("locks/step", &key.to_string());
        Ok(Lock::acquire_until(&path, Mode::Exclusive, stop)?.removing())
    }

    /// A digest that nobody can check guesses against who can't read this store: keyed with
    /// random bytes that are made at the first use.
    ///
    /// # Errors
    /// When the key can't be read or made.
    pub fn private_digest(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let path = self.path("private-key");
        if !host::exists(&path) {
            self.make_private_key(&path)?;
        }
        let key = host::read(&path).context("read", &path)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| StoreError::Damaged(path))?;
        Ok(Digest::keyed(&key, bytes))
    }

    fn make_private_key(&self, path: &Path) -> Result<(), StoreError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let aside = self.temp_path();
        host::random::<32>()
            .and_then(|key| {
                let mut options = std::fs::File::options();
                options.write(true).create_new(true).mode(0o600);
                host::open_with(&options, &aside)?.write_all(&key)
            })
            .context("write", &aside)?;
        // Whoever is first wins: a key never changes.
        _ = host::hard_link(&aside, path);
        host::remove_file(&aside).context("remove", &aside)
    }

    /// Ends all waiting for what other processes hold, now and from now on, with
    /// [`StoreError::Stopped`]: to be called when the process is to end.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether [`Store::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn gc_lock(&self, mode: Mode) -> Result<Lock, StoreError> {
        let path = self.path("locks/gc");
        match mode {
            // A collection may take long.
            Mode::Shared => Lock::acquire_until(&path, mode, &|| self.is_stopped()),
            Mode::Exclusive => Lock::acquire(&path, mode),
        }
    }
}

#[cfg(test)]
pub(crate) fn scratch_store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), Options::default()).unwrap();
    (directory, store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_looks_into_a_store() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_directory, store) = scratch_store();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.root()), 0o700);
        std::fs::set_permissions(store.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Store::open(store.root(), Options::default()).is_ok());
        assert_eq!(mode(store.root()), 0o700, "older stores, too");
    }

    #[test]
    fn only_stores_of_known_formats_are_opened() {
        let (directory, store) = scratch_store();
        let root = store.root().to_owned();
        assert!(Store::open(&root, Options::default()).is_ok());
        std::fs::write(root.join("version"), "kiln-store 2\n").unwrap();
        let error = Store::open(&root, Options::default()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Newer {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        let other = directory.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("file"), "mine").unwrap();
        let error = Store::open(&other, Options::default()).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
        std::fs::write(root.join("version"), "else").unwrap();
        let error = Store::open(&root, Options::default()).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        drop(directory);
    }
}
