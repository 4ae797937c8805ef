//! Shares steps' results with other machines: looks each key up by itself, fetches a tree's files
//! only when a step that runs needs them, sends what the other side lacks.

mod inline;
mod registry;
mod volume;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_cache::{Blob, Tree};
use kiln_graph::{BlobDigest, ContentDigest, Digest, Entry, Manifest, StepKey};
use kiln_image::layer::{UnpackOptions, Unpacked, unpack};
use kiln_share::{CacheTrust, Remote, RemoteManifest, RemotePart, RemoteRecord, RemoteTree};
use kiln_tree::host;

use crate::engine::Engine;
use crate::solve::snapshot::{LayerRef, Snapshot};
use crate::solve::step::{Filed, Shared, Usable};
use crate::{EngineError, EventSink};
pub use inline::{InlineCache, InlineRemote};
pub use registry::RegistryRemote;
pub use volume::VolumeTransfer;
pub(crate) use volume::own_entry;

/// A remote that builds take results from.
#[derive(Clone)]
pub struct CacheSource {
    remote: Arc<dyn Remote>,
    trust: CacheTrust,
    /// Which volumes are taken from it when a step wants one that isn't here.
    pub volumes: Volumes,
    /// Whether it failed: then it is not asked again.
    broken: Arc<AtomicBool>,
}

/// Some cache volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

impl Volumes {
    /// Whether a volume is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|known| known == name),
        }
    }
}

impl fmt::Debug for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheSource({})", self.remote.name())
    }
}

impl CacheSource {
    /// A source whose entries must be signed by one of the trusted keys, if there are any.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, trust: CacheTrust) -> Self {
        Self {
            remote,
            trust,
            volumes: Volumes::None,
            broken: Arc::default(),
        }
    }

    fn record(&self, key: &StepKey) -> Result<Option<RemoteRecord>, String> {
        let name = RemoteRecord::entry_name(key);
        let Some(text) = self.remote.entry(&name)? else {
            return Ok(None);
        };
        let text = self
            .trust
            .open(&name, &text)
            .map_err(|error| error.to_string())?;
        let record: RemoteRecord = serde_json::from_slice(&text)
            .map_err(|error| format!("{name} can't be understood: {error}"))?;
        if record.key != *key {
            return Err(format!("{name} holds the result of another step"));
        }
        Ok(Some(record))
    }
}

impl CacheSource {
    fn part(&self, part: &Digest) -> Result<Option<ContentDigest>, String> {
        let name = RemotePart::entry_name(part);
        let Some(text) = self.remote.entry(&name)? else {
            return Ok(None);
        };
        let text = self
            .trust
            .open(&name, &text)
            .map_err(|error| error.to_string())?;
        let found: RemotePart = serde_json::from_slice(&text)
            .map_err(|error| format!("{name} can't be understood: {error}"))?;
        match found.part == *part {
            true => Ok(Some(found.content)),
            false => Err(format!("{name} holds another part")),
        }
    }
}

/// A tree that may still be on a remote only.
#[derive(Clone, Debug)]
pub(crate) struct Distant {
    pub(crate) tree: RemoteTree,
    source: CacheSource,
}

impl Distant {
    /// See [`Remote::repository`].
    pub(crate) fn repository(&self) -> Option<String> {
        self.source.remote.repository()
    }
}

impl PartialEq for Distant {
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl Eq for Distant {}

impl Shared<'_> {
    /// What a step gave elsewhere, as far as a remote knows.
    pub(crate) fn distant(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        if usable.is_none() {
            return None;
        }
        for source in &self.request.cache_from {
            if source.broken.load(Ordering::Relaxed) {
                continue;
            }
            match source.record(key) {
                Ok(Some(record)) if usable.allows(record.created, record.stdout.is_some()) => {
                    let layer = |tree| {
                        LayerRef::Distant(Arc::new(Distant {
                            tree,
                            source: source.clone(),
                        }))
                    };
                    return Some(Filed {
                        key: *key,
                        added: record.output.into_iter().map(layer).collect(),
                        took: record.took,
                        created: record.created,
                        stdout: record.stdout,
                    });
                }
                Ok(_) => {}
                Err(reason) => self.give_up(source, &reason),
            }
        }
        None
    }
}

impl Shared<'_> {
    /// What a part of a result contains, as far as a remote knows: asked only when the files of the
    /// result aren't all here.
    pub(crate) fn distant_part(
        &self,
        snapshot: &Snapshot,
        part: &Digest,
    ) -> Result<Option<ContentDigest>, EngineError> {
        if self.request.cache_from.is_empty() || self.engine.is_here(snapshot)? {
            return Ok(None);
        }
        for source in &self.request.cache_from {
            if source.broken.load(Ordering::Relaxed) {
                continue;
            }
            match source.part(part) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(reason) => self.give_up(source, &reason),
            }
        }
        Ok(None)
    }

    /// Asks a remote no more.
    fn give_up(&self, source: &CacheSource, reason: &str) {
        source.broken.store(true, Ordering::Relaxed);
        let name = source.remote.name();
        self.warn(&format!("the cache {name} is not used: {reason}"));
    }

    /// Brings a volume here that a step wants and that isn't there, if a remote has it.
    pub(crate) fn fetch_volume(&self, id: &str, theirs: &str, name: &str) {
        let sources = self.request.cache_from.iter();
        for source in sources.filter(|source| source.volumes.has(id)) {
            match self.engine.import_volume_as(theirs, name, source) {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(error) => self.warn(&format!("the volume {name} starts empty: {error}")),
            }
        }
    }
}

impl Engine {
    /// The manifest of a tree on a remote; its files stay there, unless it is in their layer.
    pub(crate) fn distant_manifest(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Arc<Manifest>, EngineError> {
        let tree = &distant.tree;
        let RemoteManifest::Blob {
            manifest,
            manifest_size,
        } = &tree.manifest
        else {
            return Ok(self.distant_tree(distant, events)?.manifest()?);
        };
        let blob = self.distant_blob(distant, manifest, *manifest_size, &|_| {})?;
        let bytes = host::read(&blob.path).unwrap_or_default();
        kiln_cache::manifest_file::read_of(&bytes, &tree.tree)
            .map(Arc::new)
            .ok_or_else(|| broken(distant, "its manifest is another tree's"))
    }

    /// A tree of a remote with its files, brought into the store.
    pub(crate) fn distant_tree(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        let id = distant.tree.tree;
        if let Some(tree) = self.store.tree(&id)? {
            return Ok(tree);
        }
        let key = StepKey(id.0);
        let _alone = self.store.lock_step(&key, &|| self.store.is_stopped())?;
        if let Some(tree) = self.store.tree(&id)? {
            return Ok(tree);
        }
        let blob = self.distant_layer(distant, events)?;
        let staging = self.store.staging()?;
        let options = UnpackOptions {
            xattrs: self.store.xattrs(),
            give_away: self.gives_away(),
            whiteouts: true,
        };
        let name = format!("unpack from cache {}", &distant.tree.layer.blob.hex()[..12]);
        let meter = self.meter(events, name, Some(blob.size));
        let unpacked = host::open(&blob.path)
            .and_then(|file| unpack(meter.reader(file), staging.root(), &options))
            .map_err(|error| broken(distant, &error.to_string()))?;
        let manifest = self.unpacked_manifest(distant, &unpacked, events)?;
        Ok(self.store.commit(staging, manifest)?)
    }

    /// The manifest of an unpacked layer, when it is the tree's. A tar doesn't say which times
    /// count, and has folders that nobody spoke of.
    fn unpacked_manifest(
        &self,
        distant: &Distant,
        unpacked: &Unpacked,
        events: &dyn EventSink,
    ) -> Result<Manifest, EngineError> {
        let entries = unpacked.manifest.entries().iter();
        let (known, seen) = match &distant.tree.manifest {
            RemoteManifest::Blob { .. } => {
                let known = self.distant_manifest(distant, events)?;
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
        match seen.id() == distant.tree.tree {
            true => Ok(known),
            false => Err(broken(distant, "its files are not what its manifest says")),
        }
    }

    /// The blob with a tree's files.
    pub(crate) fn distant_layer(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Blob, EngineError> {
        let layer = &distant.tree.layer;
        if let Some(blob) = self.store.blob(&layer.blob)? {
            return Ok(blob);
        }
        let name = format!("pull from cache {}", &layer.blob.hex()[..12]);
        let meter = self.meter(events, name, Some(layer.size));
        self.distant_blob(distant, &layer.blob, layer.size, &|done| meter.set(done))
    }

    fn distant_blob(
        &self,
        distant: &Distant,
        digest: &BlobDigest,
        size: u64,
        progress: &dyn Fn(u64),
    ) -> Result<Blob, EngineError> {
        if let Some(blob) = self.store.blob(digest)? {
            return Ok(blob);
        }
        let mut writer = Counted {
            inner: self.store.blob_writer()?,
            done: 0,
            progress,
        };
        let fetched = distant.source.remote.blob(digest, size, &mut writer);
        fetched.map_err(|reason| broken(distant, &reason))?;
        let committed = writer.inner.commit(Some(*digest));
        committed.map_err(|error| match error {
            kiln_cache::StoreError::WrongDigest { .. } => broken(distant, &error.to_string()),
            other => other.into(),
        })
    }
}

fn broken(distant: &Distant, reason: &str) -> EngineError {
    distant.source.broken.store(true, Ordering::Relaxed);
    EngineError::RemoteCache {
        remote: distant.source.remote.name(),
        reason: reason.to_owned(),
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
