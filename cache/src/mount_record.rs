//! Mounted images: `mounts/<id>/`, with `record` (in the form of `memo`), and `upper/` and `work/` for
//! what is changed in one. A mount ends with the machine, so what is there of an earlier start of it is
//! removed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kiln_graph::TreeId;
use kiln_tree::{TreeRoot, host, remove_all};
use serde::{Deserialize, Serialize};

use crate::checked_text::read_checked;
use crate::error::Context as _;
use crate::{Store, StoreError};

/// A mounted image. Its tree is kept as long as it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Names it in the store.
    pub id: String,
    /// The image's name, as it was given.
    pub image: String,
    /// Where it is mounted: an absolute path.
    pub directory: PathBuf,
    /// The tree that is mounted.
    pub tree: TreeId,
    /// The mount namespace that it is mounted in, by the number of `/proc/self/ns/mnt`.
    pub namespace: u64,
    /// The start of the machine.
    boot: String,
}

/// Where the changes to a mounted image go.
#[derive(Debug)]
pub struct MountChanges {
    /// The directory that takes them.
    pub upper: TreeRoot,
    /// An empty directory beside it.
    pub work: PathBuf,
}

/// The images of a store that are mounted; [`Store::mounts`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Mounts<'a>(&'a Store);

impl Store {
    /// Its images that are mounted.
    #[must_use]
    pub fn mounts(&self) -> Mounts<'_> {
        Mounts(self)
    }
}

impl Mounts<'_> {
    /// Says that an image is about to be mounted.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn begin(
        &self,
        image: &str,
        directory: &Path,
        tree: TreeId,
        namespace: u64,
    ) -> Result<MountRecord, StoreError> {
        let number = host::random::<8>().context("read", Path::new("/dev/urandom"))?;
        let record = MountRecord {
            id: format!("{:016x}", u64::from_ne_bytes(number)),
            image: image.to_owned(),
            directory: directory.to_owned(),
            tree,
            namespace,
            boot: self.0.boot().to_owned(),
        };
        self.0
            .put_checked(&self.path_of(&record.id).join("record"), &record)?;
        Ok(record)
    }

    /// Makes the directories for changes to a mounted image.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn changes(&self, mount: &MountRecord) -> Result<MountChanges, StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        let [upper, work] = ["upper", "work"].map(|name| self.path_of(&mount.id).join(name));
        for path in [&upper, &work] {
            host::create_dir(path).context("create the directory", path)?;
        }
        let open = std::fs::Permissions::from_mode(0o755);
        host::set_permissions(&upper, open).context("change the mode of", &upper)?;
        Ok(MountChanges {
            upper: TreeRoot::at(upper),
            work,
        })
    }

    /// The images that have been mounted since the machine was started, sorted by their directories.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn all(&self) -> Result<Vec<MountRecord>, StoreError> {
        let mut mounts = Vec::new();
        for entry in host::read_dir(self.0.path("mounts"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = read_checked(&entry.path().join("record"))?;
            let record = text.and_then(|text| serde_json::from_str::<MountRecord>(&text).ok());
            match record {
                Some(record) if record.boot == self.0.boot() => mounts.push(record),
                Some(_) => remove_all(&entry.path()),
                // It is just being made or removed.
                None => {}
            }
        }
        mounts.sort_by(|a, b| a.directory.cmp(&b.directory));
        Ok(mounts)
    }

    /// Forgets an image that is no longer mounted, and removes what was changed in it.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn end(&self, mount: &MountRecord) -> Result<(), StoreError> {
        let path = self.path_of(&mount.id);
        let grave = self.0.temp_path();
        host::rename(&path, &grave).context("remove", &path)?;
        remove_all(&grave);
        Ok(())
    }

    /// The trees that are mounted.
    pub(crate) fn trees(&self) -> Result<HashSet<String>, StoreError> {
        let mounts = self.all()?.into_iter();
        Ok(mounts.map(|mount| mount.tree.to_string()).collect())
    }

    fn path_of(&self, id: &str) -> PathBuf {
        self.0.path("mounts").join(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PruneOptions;
    use crate::store::scratch_store;

    #[test]
    fn what_is_mounted_is_kept() {
        let (_directory, store) = scratch_store();
        let tree = store.trees().empty().unwrap().id();
        let mount = store
            .mounts()
            .begin("a", Path::new("/mnt"), tree, 1)
            .unwrap();
        let changes = store.mounts().changes(&mount).unwrap();
        assert!(changes.upper.path().is_dir() && changes.work.is_dir());
        assert_eq!(store.mounts().all().unwrap(), std::slice::from_ref(&mount));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let all = PruneOptions {
            all: true,
            ..PruneOptions::default()
        };
        store.prune(&all).unwrap();
        assert!(store.trees().get(&tree).unwrap().is_some());
        store.mounts().end(&mount).unwrap();
        assert_eq!(store.mounts().all().unwrap(), []);
        std::thread::sleep(std::time::Duration::from_millis(20));
        store.prune(&all).unwrap();
        assert!(store.trees().get(&tree).unwrap().is_none());
    }

    #[test]
    fn mounts_end_with_the_machine() {
        let (_directory, store) = scratch_store();
        let tree = store.trees().empty().unwrap().id();
        let mut mount = store
            .mounts()
            .begin("a", Path::new("/mnt"), tree, 1)
            .unwrap();
        mount.boot = "earlier".to_owned();
        let path = store.mounts().path_of(&mount.id);
        store.put_checked(&path.join("record"), &mount).unwrap();
        assert_eq!(store.mounts().all().unwrap(), []);
        assert!(!path.exists());
    }
}
