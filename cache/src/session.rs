//! Running builds, as the collector sees them: `sessions/<process>-<number>`, a file that its
//! build holds locked and whose modification time is when the build began.

use std::path::Path;
use std::time::SystemTime;

use kiln_tree::host;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::error::Context as _;
use crate::lock::{Lock, Mode};
use crate::{Store, StoreError};

/// While it lives, nothing that was used since it began is collected.
#[derive(Debug)]
pub struct Session {
    store: Store,
    _lock: Lock,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.store.0.in_use.end();
    }
}

impl Store {
    /// Says that a build begins.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn session(&self) -> Result<Session, StoreError> {
        let name = self.temp_path();
        let path = self
            .path("sessions")
            .join(name.file_name().unwrap_or_default());
        let lock = Lock::acquire(&path, Mode::Exclusive)?.removing();
        self.0.in_use.begin();
        Ok(Session {
            store: self.clone(),
            _lock: lock,
        })
    }

    /// When the oldest running build began; now, if none runs. Removes what dead builds left.
    pub(crate) fn oldest_session(&self) -> Result<SystemTime, StoreError> {
        let directory = self.path("sessions");
        let mut oldest = SystemTime::now();
        for entry in host::read_dir(&directory)
            .context("read the directory", &directory)?
            .flatten()
        {
            let path = entry.path();
            let began = entry.metadata().and_then(|metadata| metadata.modified());
            match Lock::try_acquire(&path, Mode::Exclusive)? {
                Some(dead) => drop(dead.removing()),
                None => oldest = oldest.min(began.unwrap_or(SystemTime::UNIX_EPOCH)),
            }
        }
        Ok(oldest)
    }
}

/// Sets a stored file's modification time, which says when it was last used, to now; whether the
/// file is there.
pub(crate) fn touch(path: &Path) -> bool {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use crate::store::scratch_store;

    #[test]
    fn trees_are_known_as_long_as_their_session_lives() {
        let (_directory, store) = scratch_store();
        let id = store.trees().empty().unwrap().id();
        assert!(!store.0.in_use.has(&id), "no session");
        let first = store.session().unwrap();
        assert!(store.trees().get(&id).unwrap().is_some());
        assert!(store.0.in_use.has(&id));
        let second = store.session().unwrap();
        assert!(!store.0.in_use.has(&id), "touched before the second began");
        assert!(store.trees().get(&id).unwrap().is_some());
        drop(first);
        assert!(store.0.in_use.has(&id));
        drop(second);
        assert!(!store.0.in_use.has(&id));
    }
}
