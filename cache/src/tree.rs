//! Trees: `trees/<2 hex>/<tree id>/` with `fs/`, a directory overlayfs can mount as it is, and
//! `manifest`, its entries (see `manifest_file`). Never written again once visible.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_graph::{Manifest, TreeId};
use kiln_tree::{TreeRoot, host, remove_all};

use crate::error::Context as _;
use crate::lock::Mode;
use crate::staging::rename;
use crate::{Staging, Store, StoreError, manifest_file, pending, session};

/// A tree of the store.
#[derive(Clone, Debug)]
pub struct Tree {
    id: TreeId,
    directory: PathBuf,
    store: Store,
}

impl Tree {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.id
    }

    /// Its files. Never to be written to.
    #[must_use]
    pub fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// Its files, to be read.
    #[must_use]
    pub fn root(&self) -> TreeRoot {
        TreeRoot::at(self.fs())
    }

    /// Its entries.
    ///
    /// # Errors
    /// When they can't be read, or are damaged.
    pub fn manifest(&self) -> Result<Arc<Manifest>, StoreError> {
        if let Some(manifest) = self.store.0.manifests.get(&self.id) {
            return Ok(manifest);
        }
        let path = self.directory.join("manifest");
        let bytes = host::read(&path).context("read", &path)?;
        let manifest = manifest_file::read(&bytes).ok_or(StoreError::Damaged(path))?;
        let manifest = Arc::new(manifest);
        self.store.0.manifests.put(self.id, manifest.clone());
        Ok(manifest)
    }
}

/// The trees of a store; [`Store::trees`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Trees<'a>(&'a Store);

impl Store {
    /// Its trees.
    #[must_use]
    pub fn trees(&self) -> Trees<'_> {
        Trees(self)
    }
}

impl Trees<'_> {
    pub(crate) fn directory(&self, id: &TreeId) -> PathBuf {
        self.0.sharded("trees", &id.to_string())
    }

    /// A tree, if it is there; it is touched (see [`Records::get`](crate::Records::get)).
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn get(&self, id: &TreeId) -> Result<Option<Tree>, StoreError> {
        if self.0.0.in_use.has(id) {
            return Ok(Some(self.at(*id)));
        }
        let _kept = self.0.gc_lock(Mode::Shared)?;
        let tree = self.touch(id).then(|| self.at(*id));
        if tree.is_some() {
            self.0.0.in_use.add(*id);
        }
        Ok(tree)
    }

    fn at(&self, id: TreeId) -> Tree {
        Tree {
            id,
            directory: self.directory(&id),
            store: self.0.clone(),
        }
    }

    /// Touches a tree; whether it is there. The collection lock must be held.
    pub(crate) fn touch(&self, id: &TreeId) -> bool {
        session::touch(&self.directory(id).join("manifest"))
    }

    /// Makes a staged directory a tree. When the same tree is there already, that one is kept.
    ///
    /// # Errors
    /// When the store can't be written.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a staging directory is used up"
    )]
    pub fn commit(&self, staging: Staging, manifest: Manifest) -> Result<Tree, StoreError> {
        let id = manifest.id();
        let file = staging.directory().join("manifest");
        host::write(&file, manifest_file::write(&manifest)).context("write", &file)?;
        remove_all(staging.work());
        let directory = self.directory(&id);
        let _kept = self.0.gc_lock(Mode::Shared)?;
        if !self.touch(&id) {
            pending::mark(self.0, &directory)?;
            self.move_into_place(staging.directory(), &directory, &id)?;
        }
        self.0.0.manifests.put(id, Arc::new(manifest));
        self.0.0.in_use.add(id);
        Ok(self.at(id))
    }

    fn move_into_place(&self, from: &Path, to: &Path, id: &TreeId) -> Result<(), StoreError> {
        match rename(from, to) {
            Err(_) if self.touch(id) => Ok(()),
            other => other,
        }
    }

    /// The tree without entries.
    ///
    /// # Errors
    /// When it isn't there and can't be made.
    pub fn empty(&self) -> Result<Tree, StoreError> {
        match self.get(&Manifest::default().id())? {
            Some(tree) => Ok(tree),
            None => self.commit(self.0.staging()?, Manifest::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;
    use kiln_graph::{Digest, Entry, Node};

    #[test]
    fn the_first_of_equal_trees_is_kept() {
        let (_directory, store) = scratch_store();
        let node = Node::File {
            size: 1,
            digest: Digest::of(b"1"),
        };
        let manifest = Manifest::new(vec![Entry {
            node,
            ..Entry::directory("/a".into())
        }]);
        let commit = || {
            let staging = store.staging().unwrap();
            std::fs::write(staging.fs().join("a"), b"1").unwrap();
            store.trees().commit(staging, manifest.clone()).unwrap()
        };
        let inode = |tree: &Tree| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(tree.fs().join("a")).unwrap().ino()
        };
        let first = commit();
        let first_inode = inode(&first);
        let second = commit();
        assert_eq!((first.id(), first_inode), (second.id(), inode(&second)));
        assert_eq!(
            *store
                .trees()
                .get(&first.id())
                .unwrap()
                .unwrap()
                .manifest()
                .unwrap(),
            manifest
        );
        assert!(
            std::fs::read_dir(store.path("tmp"))
                .unwrap()
                .next()
                .is_none()
        );
        assert!(
            store
                .trees()
                .get(&store.trees().empty().unwrap().id())
                .unwrap()
                .is_some()
        );
    }
}
