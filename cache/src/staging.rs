//! Places where things are made before they become visible.
//!
//! `wide/<process>-<start>/<number>/` for trees, `tmp/<process>-<start>-<number>` for all else; the
//! process's number and its start time (field 22 of `/proc/<pid>/stat`) tell whether its owner still
//! runs. Containers don't see each other's processes: so each owner also holds
//! `locks/owner/<process>-<start>`, and has another start where one of the same number has that. Who
//! gets the lock of a name removes what is there of that name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_tree::{TreeRoot, host, remove_all};

use crate::error::Context as _;
use crate::lock::{Lock, Mode};
use crate::process_owner::Owner;
use crate::{Store, StoreError};

/// Where trees are made.
const WIDE: &str = "wide";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory nobody else sees; removed with all it holds when dropped.
#[derive(Debug)]
pub struct Staging {
    directory: PathBuf,
    root: TreeRoot,
    work: PathBuf,
}

impl Staging {
    /// The directory that is to become a tree; empty and mode 0755 at first.
    #[must_use]
    pub fn fs(&self) -> &Path {
        self.root.path()
    }

    /// The same, to be filled.
    #[must_use]
    pub fn root(&self) -> &TreeRoot {
        &self.root
    }

    /// An empty directory beside it, on the same file system: overlayfs wants one to work in.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove_all(&self.directory);
    }
}

impl Store {
    /// Makes a staging directory, in `wide/<process>-<start>/`.
    ///
    /// ext4 puts new files into the group of the disk that their directory is in, and doesn't use
    /// recently deleted inodes again for minutes: after a collection each new file costs a search
    /// among them. So directories made in `wide/` each go to another group. Measured, that makes
    /// 0.6 s of 7.5 s for unpacking a Debian base, and 5 s of 35 s for installing npm. One
    /// directory for all of a process's stagings, rather than each in its own group, keeps the
    /// small ones cheap. Other file systems know no such flag.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = self.own_wide()?.join(number.to_string());
        host::create_dir_all(&directory).context("create the directory", &directory)?;
        let (fs, work) = (directory.join("fs"), directory.join("work"));
        for path in [&fs, &work] {
            host::create_dir(path).context("create the directory", path)?;
        }
        let open = std::fs::Permissions::from_mode(0o755);
        host::set_permissions(&fs, open).context("change the mode of", &fs)?;
        let root = TreeRoot::at(fs);
        Ok(Staging {
            directory,
            root,
            work,
        })
    }

    /// The directory for this process's stagings.
    fn own_wide(&self) -> Result<&Path, StoreError> {
        if let Some(own) = self.0.wide.get() {
            return Ok(own);
        }
        let wide = self.path(WIDE);
        if !host::exists(&wide) {
            host::create_dir_all(&wide).context("create the directory", &wide)?;
            spread(&wide);
        }
        let owner = self.owner();
        Ok(self.0.wide.get_or_init(|| wide.join(owner)))
    }

    /// What this process's things are named after.
    fn owner(&self) -> &str {
        &self
            .0
            .owner
            .get_or_init(|| Owner::of_this_process(self))
            .name
    }

    /// An empty directory for a file that is needed for a moment; removed with its owner's other
    /// leavings when it dies.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch_directory(&self) -> Result<PathBuf, StoreError> {
        let directory = self.temp_path();
        host::create_dir(&directory).context("create the directory", &directory)?;
        Ok(directory)
    }

    /// A new file on the store's file system, to be given to [`crate::Blobs::adopt`] or removed.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn temp_file(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.temp_path();
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = host::open_with(&options, &path);
        let file = file.context("create", &path)?;
        Ok((path, file))
    }

    /// A path in `tmp/` that nobody else uses.
    pub(crate) fn temp_path(&self) -> PathBuf {
        self.path("tmp").join(numbered(self.owner()))
    }

    /// Puts bytes at a path at once: nobody sees half of them.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let aside = self.temp_path();
        let written = host::write(&aside, bytes).context("write", path);
        written
            .and_then(|()| rename(&aside, path))
            .inspect_err(|_| {
                _ = host::remove_file(&aside);
            })
    }
}

/// Renames, making the target's directory when it isn't there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    match host::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let directory = to.parent().unwrap_or(Path::new("/"));
            host::create_dir_all(directory).context("create the directory", directory)?;
            host::rename(from, to).context("move into place", to)
        }
        other => other.context("move into place", to),
    }
}

/// This process's number and start time.
fn own_process() -> (u32, u64) {
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let pid = std::process::id();
    (pid, *START.get_or_init(|| start_time(pid).unwrap_or(0)))
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = host::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl Owner {
    fn of_this_process(store: &Store) -> Self {
        let (pid, start) = own_process();
        let names = (0..MAX_NAMESAKES).map(|other| format!("{pid}-{}", start + (other << 40)));
        for name in names {
            match Lock::try_acquire(&owner_lock(store, &name), Mode::Exclusive) {
                Ok(Some(lock)) => {
                    remove_namesakes(store, &name);
                    let _lock = Some(lock.removing());
                    return Self { name, _lock };
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Self {
            name: format!("{pid}-{start}"),
            _lock: None,
        }
    }
}

/// How many processes of one number, started at once in as many containers, are told apart.
const MAX_NAMESAKES: u64 = 1000;

fn owner_lock(store: &Store, owner: &str) -> PathBuf {
    store.path("locks/owner").join(owner)
}

/// The process's number and start that a name in `tmp/` or `wide/` begins with.
fn owner_of(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.split('-').map(str::parse::<u64>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether the owner of a thing of this name is gone. Its lock decides: number and start may be
/// another process's by now.
fn is_dead(store: &Store, name: &str) -> bool {
    let Some((pid, start)) = owner_of(name) else {
        return false;
    };
    let lock = owner_lock(store, &format!("{pid}-{start}"));
    if !host::exists(&lock) {
        return u32::try_from(pid).ok().and_then(start_time) != Some(start);
    }
    match Lock::try_acquire(&lock, Mode::Exclusive) {
        Ok(Some(lock)) => {
            drop(lock.removing());
            true
        }
        _ => false,
    }
}

/// Removes what an earlier process of this number and start left behind: in a process namespace
/// that shows the machine's `/proc`, every first process has those of the machine's.
fn remove_namesakes(store: &Store, owner: &str) {
    let is_own =
        |name: &str| owner_of(name).is_some_and(|(pid, start)| format!("{pid}-{start}") == owner);
    // What can't be removed is told of by whoever comes upon it.
    _ = remove_all_that(store, is_own);
}

/// Has each directory made in `directory` put into another group of the disk.
fn spread(directory: &Path) {
    if let Ok(file) = host::open(directory)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
    {
        _ = rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// A name in `tmp/` that no other has, and that says whose it is.
pub(crate) fn temp_name() -> String {
    let (pid, start) = own_process();
    numbered(&format!("{pid}-{start}"))
}

fn numbered(owner: &str) -> String {
    format!("{owner}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what dead processes left in `tmp/` and `wide/`.
pub(crate) fn remove_dead(store: &Store) -> Result<(), StoreError> {
    remove_all_that(store, |name| is_dead(store, name))
}

/// Removes what has names of a kind from `tmp/` and `wide/`.
fn remove_all_that(store: &Store, is_meant: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    let wide = store.path(WIDE);
    // Only what makes trees makes this one.
    let wide = host::exists(&wide).then_some(wide);
    for directory in [Some(store.path("tmp")), wide].into_iter().flatten() {
        for entry in host::read_dir(&directory).context("read the directory", &directory)? {
            let entry = entry.context("read the directory", &directory)?;
            if entry.file_name().to_str().is_some_and(&is_meant) {
                remove_all(&entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn what_processes_of_other_containers_own_stays() {
        let (_directory, store) = scratch_store();
        let lock = owner_lock(&store, "7-1");
        let held = Lock::try_acquire(&lock, Mode::Exclusive).unwrap().unwrap();
        let theirs = store.path("wide/7-1/0/fs");
        std::fs::create_dir_all(&theirs).unwrap();
        remove_dead(&store).unwrap();
        assert!(theirs.exists());
        drop(held);
        remove_dead(&store).unwrap();
        assert!(!theirs.exists());
    }

    #[test]
    fn a_namesake_in_another_container_has_another_name() {
        let (_directory, store) = scratch_store();
        let (pid, start) = own_process();
        let lock = owner_lock(&store, &format!("{pid}-{start}"));
        let _theirs = Lock::try_acquire(&lock, Mode::Exclusive).unwrap().unwrap();
        let mine = store.staging().unwrap();
        let theirs = store.path("wide").join(format!("{pid}-{start}"));
        assert!(!mine.directory().starts_with(theirs));
        remove_dead(&store).unwrap();
        assert!(mine.fs().exists());
    }

    #[test]
    fn what_an_earlier_namesake_left_is_not_in_the_way() {
        let (_directory, store) = scratch_store();
        let (pid, start) = own_process();
        let next = NEXT.load(Ordering::Relaxed);
        for number in next..next + 100 {
            let left = store.path("tmp").join(format!("{pid}-{start}-{number}"));
            std::fs::write(left, b"").unwrap();
        }
        let wide = store.path(&format!("wide/{pid}-{start}/{next}/fs"));
        std::fs::create_dir_all(&wide).unwrap();
        _ = store.temp_file().unwrap();
        assert!(!wide.exists());
        _ = store.staging().unwrap();
    }

    #[test]
    fn only_what_the_dead_left_is_removed() {
        let (_directory, store) = scratch_store();
        let mine = store.staging().unwrap();
        let (pid, start) = own_process();
        let dead = store.path("tmp").join(format!("{pid}-{}-0", start + 1));
        std::fs::create_dir_all(dead.join("a/b")).unwrap();
        std::fs::write(dead.join("a/b/c"), b"").unwrap();
        remove_dead(&store).unwrap();
        assert!(!dead.exists());
        assert!(mine.fs().exists());
        let directory = mine.directory().to_owned();
        drop(mine);
        assert!(!directory.exists());
    }
}
