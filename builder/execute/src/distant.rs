//! Trees of shared caches: only their manifests are fetched until a step that runs needs the files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{Blob, Tree};
use kiln_graph::{BlobDigest, Entry, Manifest, StepKey, TreeId};
use kiln_image::layer::Unpacked;
use kiln_share::{CacheSource, RemoteError, RemoteManifest, RemoteTree};
use kiln_solve::EventSink;
use kiln_tree::host;

use crate::EngineError;
use crate::meter::meter;
use crate::snapshotter::Snapshotter;

/// A tree that may still be in a shared cache only.
#[derive(Clone, Debug)]
pub struct Distant {
    /// The tree, as the cache names it.
    pub tree: RemoteTree,
    pub(crate) source: CacheSource,
}

impl Distant {
    /// A tree of a source.
    #[must_use]
    pub fn new(tree: RemoteTree, source: &CacheSource) -> Self {
        let source = source.clone();
        Self { tree, source }
    }
}

/// The trees that one build found in shared caches.
#[derive(Debug, Default)]
pub struct DistantTrees(Mutex<BTreeMap<TreeId, Known>>);

/// What shared caches know of a tree.
#[derive(Clone, Debug)]
enum Known {
    /// Where its files can be had.
    Files(Arc<Distant>),
    /// Its identity only; with the cache that knows it.
    Name(CacheSource),
}

impl DistantTrees {
    /// Notes where a tree can be had; the first place stays.
    pub fn add(&self, tree: RemoteTree, source: &CacheSource) {
        let files = Arc::new(Distant::new(tree, source));
        self.add_files(files.tree.tree, files);
    }

    /// Notes what another build found.
    pub fn extend(&self, other: &Self) {
        // The other's are let go of first: whoever joins two ways at once doesn't wait for itself.
        let theirs = other.known().clone();
        for (id, found) in theirs {
            match found {
                Known::Files(files) => self.add_files(id, files),
                Known::Name(source) => self.add_name(id, &source),
            }
        }
    }

    fn add_files(&self, id: TreeId, files: Arc<Distant>) {
        let mut known = self.known();
        if !matches!(known.get(&id), Some(Known::Files(_))) {
            _ = known.insert(id, Known::Files(files));
        }
    }

    /// A tree that was found.
    #[must_use]
    pub fn get(&self, id: &TreeId) -> Option<Arc<Distant>> {
        match self.known().get(id)? {
            Known::Files(distant) => Some(Arc::clone(distant)),
            Known::Name(_) => None,
        }
    }

    /// Notes that a cache names a tree whose files it doesn't have.
    pub fn add_name(&self, tree: TreeId, source: &CacheSource) {
        let mut known = self.known();
        let slot = known.entry(tree);
        _ = slot.or_insert_with(|| Known::Name(source.clone()));
    }

    /// Why a tree can't be had that isn't in the store, when only its identity is known.
    #[must_use]
    pub fn only_named(&self, id: &TreeId) -> Option<EngineError> {
        match self.known().get(id)? {
            Known::Files(_) => None,
            Known::Name(source) => Some(EngineError::RemoteCache {
                remote: source.remote().name(),
                source: RemoteError::NameOnly,
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TreeId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Distant {
    /// See [`kiln_share::Remote::repository`].
    #[must_use]
    pub fn repository(&self) -> Option<String> {
        self.source.remote().repository()
    }

    fn damaged(&self, reason: &str) -> EngineError {
        self.failed(RemoteError::Damaged(reason.to_owned()))
    }

    fn failed(&self, source: RemoteError) -> EngineError {
        self.source.give_up();
        EngineError::RemoteCache {
            remote: self.source.remote().name(),
            source,
        }
    }
}

/// Brings what belongs to one tree here.
pub(crate) struct Fetch<'a> {
    pub(crate) trees: &'a Snapshotter,
    pub(crate) distant: &'a Distant,
    pub(crate) events: &'a dyn EventSink,
}

impl Fetch<'_> {
    /// The tree's manifest; its files stay there, unless it is in their layer.
    pub(crate) fn manifest(&self) -> Result<Arc<Manifest>, EngineError> {
        let tree = &self.distant.tree;
        let RemoteManifest::Blob {
            manifest,
            manifest_size,
        } = &tree.manifest
        else {
            return Ok(self.tree()?.manifest()?);
        };
        let blob = self.blob(manifest, *manifest_size, &|_| {})?;
        let bytes = host::read(&blob.path).unwrap_or_default();
        kiln_cache::manifest_file::read_of(&bytes, &tree.tree)
            .map(Arc::new)
            .ok_or_else(|| self.distant.damaged("its manifest is another tree's"))
    }

    /// The tree with its files, brought into the store.
    pub(crate) fn tree(&self) -> Result<Tree, EngineError> {
        let (id, store) = (self.distant.tree.tree, &self.trees.store);
        if let Some(tree) = store.trees().get(&id)? {
            return Ok(tree);
        }
        let key = StepKey(id.0);
        let _alone = store.lock_step(&key, &|| store.is_stopped())?;
        if let Some(tree) = store.trees().get(&id)? {
            return Ok(tree);
        }
        let blob = self.layer()?;
        let staging = store.staging()?;
        let short = &self.distant.tree.layer.blob.hex()[..12];
        let name = format!("unpack from cache {short}");
        let unpacked = self.trees.unpack(&blob, &staging, name, self.events);
        let unpacked = unpacked.map_err(|error| self.distant.damaged(&error.to_string()))?;
        if unpacked.diff_id != self.distant.tree.layer.diff_id {
            return Err(self.distant.damaged("its layer is not what its entry says"));
        }
        let manifest = self.unpacked_manifest(&unpacked)?;
        Ok(store.trees().commit(staging, manifest)?)
    }

    /// The manifest of an unpacked layer, when it is the tree's. A tar doesn't say which times
    /// count, and has directories that nobody spoke of.
    fn unpacked_manifest(&self, unpacked: &Unpacked) -> Result<Manifest, EngineError> {
        let entries = unpacked.manifest.entries().iter();
        let (known, seen) = match &self.distant.tree.manifest {
            RemoteManifest::Blob { .. } => {
                let known = self.manifest()?;
                let spoken = entries.filter_map(|entry| {
                    let mut entry = entry.clone();
                    entry.mtime_counts = known.get(&entry.path)?.mtime_counts;
                    Some(entry)
                });
                let seen = spoken.collect::<Manifest>();
                ((*known).clone(), seen)
            }
            RemoteManifest::Layer { counts } => {
                let spoken = entries.filter(|entry| !unpacked.implied.contains(&entry.path));
                let spoken: Vec<Entry> = spoken.cloned().collect();
                let seen = RemoteManifest::with_counts(&spoken, counts);
                (seen.clone(), seen)
            }
        };
        match seen.id() == self.distant.tree.tree {
            true => Ok(known),
            false => Err(self
                .distant
                .damaged("its files are not what its manifest says")),
        }
    }

    /// The blob with the tree's files.
    pub(crate) fn layer(&self) -> Result<Blob, EngineError> {
        let layer = &self.distant.tree.layer;
        if let Some(blob) = self.trees.store.blobs().get(&layer.blob)? {
            return Ok(blob);
        }
        let name = format!("pull from cache {}", &layer.blob.hex()[..12]);
        let meter = meter(&self.trees.store, self.events, name, Some(layer.size));
        self.blob(&layer.blob, layer.size, &|done| meter.set(done))
    }

    fn blob(
        &self,
        digest: &BlobDigest,
        size: u64,
        progress: &dyn Fn(u64),
    ) -> Result<Blob, EngineError> {
        if let Some(blob) = self.trees.store.blobs().get(digest)? {
            return Ok(blob);
        }
        let mut writer = Counted {
            inner: self.trees.store.blobs().writer()?,
            done: 0,
            progress,
        };
        let remote = self.distant.source.remote();
        let fetched = remote.blob(digest, size, &mut writer);
        fetched.map_err(|error| self.distant.failed(error))?;
        let committed = writer.inner.commit(Some(*digest));
        committed.map_err(|error| match error {
            kiln_cache::StoreError::WrongDigest { .. } => self.distant.damaged(&error.to_string()),
            other => other.into(),
        })
    }
}

struct Counted<'a> {
    inner: kiln_cache::BlobWriter,
    done: u64,
    progress: &'a dyn Fn(u64),
}

impl std::io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.done += count as u64;
        (self.progress)(self.done);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
