//! Locks between threads and processes: `flock` on files of the store.
//!
//! A lock file that nobody holds may be removed by anyone who holds it, so whoever gets the lock
//! looks whether the file is still the one at its path, and starts again when it isn't.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_tree::host;
use rustix::fs::{FlockOperation, flock};

use crate::StoreError;
use crate::error::Context as _;

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
    remove: bool,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.remove {
            _ = host::remove_file(&self.path);
        }
    }
}

/// Asked again and again by whoever waits for a lock that others hold for long: whether to give up.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// The longest pause between two looks at a lock.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// How a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// Waits for the lock at `path`.
    pub(crate) fn acquire(path: &Path, mode: Mode) -> Result<Self, StoreError> {
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            let file = open(path)?;
            retry_interrupted(|| flock(&file, operation)).context("lock", path)?;
            if is_still_at(&file, path) {
                return Ok(Self {
                    _file: file,
                    path: path.to_owned(),
                    remove: false,
                });
            }
        }
    }

    /// Waits for the lock at `path` until `stop` says to give up.
    pub(crate) fn acquire_until(
        path: &Path,
        mode: Mode,
        stop: Stop<'_>,
    ) -> Result<Self, StoreError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = Self::try_acquire(path, mode)? {
                return Ok(lock);
            }
            if stop() {
                return Err(StoreError::Stopped);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Takes the lock at `path` if nobody has it.
    pub(crate) fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Self>, StoreError> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let file = open(path)?;
        match retry_interrupted(|| flock(&file, operation)) {
            Ok(()) if is_still_at(&file, path) => Ok(Some(Self {
                _file: file,
                path: path.to_owned(),
                remove: false,
            })),
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("lock", path),
        }
    }

    /// Removes the lock's file on release; only for exclusive locks.
    pub(crate) fn removing(mut self) -> Self {
        self.remove = true;
        self
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    match host::open_with(&options, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            host::create_dir_all(parent).context("create the directory", parent)?;
            host::open_with(&options, path).context("open the lock", path)
        }
        other => other.context("open the lock", path),
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(held), Ok(there)) = (file.metadata(), host::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

fn retry_interrupted(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_holder_at_a_time_even_when_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/lock");
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::acquire(&path, Mode::Exclusive).unwrap().removing();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn waiting_can_be_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::acquire(&path, Mode::Exclusive).unwrap();
        let asked = AtomicU32::new(0);
        let thrice = || asked.fetch_add(1, Ordering::SeqCst) == 2;
        let waited = Lock::acquire_until(&path, Mode::Shared, &thrice);
        assert!(matches!(waited, Err(StoreError::Stopped)));
        drop(held);
        assert!(Lock::acquire_until(&path, Mode::Shared, &|| true).is_ok());
    }

    #[test]
    fn a_held_lock_is_not_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::acquire(&path, Mode::Shared).unwrap();
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
        assert!(Lock::try_acquire(&path, Mode::Shared).unwrap().is_some());
        drop(held);
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_some());
    }
}
