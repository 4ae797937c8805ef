//! What a power cut may take.
//!
//! Before a thing becomes visible, an empty file `pending/<boot id>/<part>~<2 hex>~<name>` says
//! so. Making it is ordered before the rename in the file system's journal, and costs no wait.
//! Some time later one `syncfs` settles all, and the marks go. Marks of another boot id were
//! never settled: what they name may be incomplete. It is compared with its digest before anybody
//! uses it, and dropped when it is something else.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_tree::{host, remove_all};
use rayon::prelude::*;

use crate::error::Context as _;
use crate::lock::Mode;
use crate::{Kind, Store, StoreError, damage};

/// Its modification time is that of the first build's end after marks were last settled.
const SINCE: &str = "pending-since";
/// Marks are settled once they have waited for so long: by then the kernel has written nearly all
/// (`vm.dirty_expire_centisecs` is 30 seconds), and syncing is cheap.
const SETTLE_AFTER: Duration = Duration::from_secs(60);

/// Identifies the time since the machine was started.
pub(crate) fn boot_id() -> String {
    let id = host::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    if id.is_empty() {
        "unknown".to_owned()
    } else {
        id
    }
}

/// Marks that the thing at `path` (inside the store) is about to become visible.
pub(crate) fn mark(store: &Store, path: &Path) -> Result<(), StoreError> {
    let Some(name) = mark_name(store, path) else {
        return Ok(());
    };
    let mark = store.path("pending").join(store.boot()).join(name);
    match host::create(&mark) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let directory = mark.parent().unwrap_or(Path::new("/"));
            host::create_dir_all(directory).context("create the directory", directory)?;
            host::create(&mark).context("create", &mark)?;
        }
        other => _ = other.context("create", &mark)?,
    }
    Ok(())
}

fn mark_name(store: &Store, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(store.root()).ok()?;
    Some(inside.to_str()?.replace('/', "~"))
}

/// Looks at what marks of another boot name, and drops what isn't whole: after a power cut that is
/// what the disk didn't get, after an orderly restart nothing.
pub(crate) fn check_unsettled(store: &Store) -> Result<(), StoreError> {
    let others = other_boots(store)?;
    if others.is_empty() {
        return Ok(());
    }
    let _alone = store.gc_lock(Mode::Exclusive)?;
    // Another process may have done it meanwhile.
    let others = other_boots(store)?;
    let marked: Vec<PathBuf> = others
        .iter()
        .flat_map(|directory| marked(store, directory))
        .collect();
    let trees = marked.iter().filter(|path| kind(store, path) == Kind::Tree);
    match trees.count() {
        0 => {}
        count => (store.options().notice)(&format!(
            "checking {count} results from before this machine was started"
        )),
    }
    let damaged = marked
        .into_par_iter()
        .filter(|path| is_doubtful(kind(store, path), path));
    damaged.for_each(|path| remove_all(&path));
    for directory in others {
        remove_all(&directory);
    }
    Ok(())
}

/// What the marks in a directory name, as far as it is there.
fn marked(store: &Store, directory: &Path) -> Vec<PathBuf> {
    let marks = host::read_dir(directory).into_iter().flatten().flatten();
    let path = |mark: std::fs::DirEntry| {
        let name = mark.file_name().to_str()?.replace('~', "/");
        Some(store.root().join(name)).filter(|path| host::symlink_metadata(path).is_ok())
    };
    marks.filter_map(path).collect()
}

/// Whether a marked thing may not be whole. What filled a volume has no digest to compare it with.
fn is_doubtful(kind: Kind, path: &Path) -> bool {
    kind == Kind::Volume || damage::problem(kind, path).is_some()
}

/// What lies at a path of the store. All that is small is in the form of `memo`.
fn kind(store: &Store, path: &Path) -> Kind {
    let inside = path.strip_prefix(store.root()).unwrap_or(path);
    let of_tree = [Kind::Tree, Kind::Blob, Kind::Volume];
    let found = of_tree
        .into_iter()
        .find(|kind| inside.starts_with(kind.place().0));
    found.unwrap_or(Kind::Memo)
}

fn other_boots(store: &Store) -> Result<Vec<PathBuf>, StoreError> {
    let pending = store.path("pending");
    let entries = host::read_dir(&pending).context("read the directory", &pending)?;
    let others = entries
        .flatten()
        .filter(|entry| entry.file_name() != *store.boot());
    Ok(others.map(|entry| entry.path()).collect())
}

impl Store {
    /// Makes what was stored a while ago safe against power cuts; called at the end of builds.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub fn settle(&self) -> Result<(), StoreError> {
        let directory = self.path("pending").join(self.boot());
        let marks = || host::read_dir(&directory).into_iter().flatten().flatten();
        if marks().next().is_none() || !self.is_time_to_settle()? {
            return Ok(());
        }
        let marks: Vec<_> = marks().collect();
        let root = host::open(self.root()).context("open", self.root())?;
        rustix::fs::syncfs(&root).context("write to the disk", self.root())?;
        for mark in marks {
            _ = host::remove_file(mark.path());
        }
        _ = host::remove_file(self.path(SINCE));
        Ok(())
    }

    /// Whether marks have been waiting for long. To look at each would take as long as there are
    /// marks: one file says since when there are any.
    fn is_time_to_settle(&self) -> Result<bool, StoreError> {
        let since = self.path(SINCE);
        let waits = host::metadata(&since).and_then(|metadata| metadata.modified());
        match waits {
            Ok(time) => Ok(time < SystemTime::now() - SETTLE_AFTER),
            Err(_) => {
                host::create(&since).context("create", &since)?;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::store::scratch_store;
    use kiln_graph::Digest;

    #[test]
    fn marks_go_once_they_have_waited() {
        let (_directory, store) = scratch_store();
        let marks = || {
            let directory = store.path("pending").join(store.boot());
            std::fs::read_dir(directory).unwrap().count()
        };
        store.memos().put("test", &Digest::of(b"kept"), &1).unwrap();
        store.settle().unwrap();
        store.settle().unwrap();
        assert_eq!(marks(), 1);
        let since = std::fs::File::create(store.path(SINCE)).unwrap();
        since
            .set_modified(SystemTime::now() - 2 * SETTLE_AFTER)
            .unwrap();
        store.settle().unwrap();
        assert_eq!(marks(), 0);
        assert!(!store.path(SINCE).exists());
    }

    #[test]
    fn what_was_never_settled_is_checked_after_a_restart() {
        let (_directory, store) = scratch_store();
        let [settled, whole, lost] =
            [b"settled", b"whole12", b"lost123"].map(|name| Digest::of(name));
        let pending = store.path("pending");
        store.memos().put("test", &settled, &1).unwrap();
        std::fs::rename(pending.join(store.boot()), store.path("aside")).unwrap();
        store.memos().put("test", &whole, &2).unwrap();
        store.memos().put("test", &lost, &3).unwrap();
        let blob = store.blobs().put(b"blob").unwrap();
        // The disk got the names, but not what is in the files.
        let emptied = store.sharded("memo/test", &lost.to_string());
        for path in [&emptied, &blob.path] {
            std::fs::write(path, "").unwrap();
        }
        let before = pending.join("another-boot");
        std::fs::rename(pending.join(store.boot()), &before).unwrap();
        std::fs::write(before.join("trees~00~never-made"), "").unwrap();
        let again = Store::open(store.root(), Options::default()).unwrap();
        assert_eq!(again.memos().get::<u32>("test", &settled).unwrap(), Some(1));
        assert_eq!(again.memos().get::<u32>("test", &whole).unwrap(), Some(2));
        assert!(!emptied.exists() && !blob.path.exists());
        assert!(!before.exists());
    }
}
