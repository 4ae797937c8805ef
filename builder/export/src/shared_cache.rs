//! Sends steps' results to remotes while the build goes on: each as soon as it is there, by threads
//! of the remote's own. What waits are names; only as many results as there are threads are on
//! their way at once.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kiln_execute::{EngineError, Snapshotter, now};
use kiln_graph::{Build, Op, Step, StepId, Timestamp, TreeId};
use kiln_share::{
    CacheSigner, Remote, RemoteBlob, RemoteError, RemoteManifest, RemoteName, RemotePart,
    RemoteRecord, RemoteTree,
};
use kiln_solve::{EventSink, Filed, LayerRef, Part, Snapshot};

use crate::image_options::ImageOptions;
use crate::layer_blob::{Making, own_blob};
use crate::layering::PlannedLayer;
use crate::stored_blob::kept;

/// How many results go to one remote at once.
const AT_ONCE: usize = 4;

/// A blob, its length in bytes, and the file that holds it.
pub type BlobFile = (kiln_graph::BlobDigest, u64, PathBuf);

/// Which results are sent whole; of the others their names are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// All.
    Max,
}

/// A remote that a build sends its results to.
#[derive(Clone)]
pub struct CacheTarget {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// Which results it gets.
    pub mode: CacheMode,
    /// Signs them.
    pub signer: Option<CacheSigner>,
}

impl fmt::Debug for CacheTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheTarget({})", self.remote.name())
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// How many results the remote has now that it lacked.
    pub steps: usize,
    /// How many bytes were sent.
    pub bytes: u64,
}

/// All remotes of a build.
#[derive(Default)]
pub struct Exports(Vec<Export>);

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|export| export.remote.name());
        f.debug_list().entries(names).finish()
    }
}

/// One remote, and the threads that send to it.
struct Export {
    wanted: Option<BTreeSet<StepId>>,
    remote: Arc<dyn Remote>,
    jobs: Sender<Job>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    name: String,
    filed: Filed,
    /// The parts of results that the step's key is made of.
    parts: Vec<RemotePart>,
    /// Whether its files are left out.
    is_name: bool,
}

#[derive(Debug)]
struct State {
    stopped: AtomicBool,
    /// Whether it was said that the remote has results without their files.
    has_names: AtomicBool,
    outcome: Mutex<Result<Exported, EngineError>>,
}

impl State {
    /// One failure is enough: the remote is asked no more.
    fn note(&self, sent: Result<Option<u64>, EngineError>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match (sent, &mut *outcome) {
            (Ok(Some(bytes)), Ok(sum)) => {
                sum.steps += 1;
                sum.bytes += bytes;
            }
            (Err(error), Ok(_)) => {
                self.stopped.store(true, Ordering::Relaxed);
                *outcome = Err(error);
            }
            _ => {}
        }
    }

    /// Says once in a remote that it has results without their files.
    fn tell_of_names(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        let is_said = self.has_names.swap(true, Ordering::Relaxed);
        if !is_said && remote.entry(RemoteName::ANY)?.is_none() {
            _ = remote.put(RemoteName::ANY, b"{}", &[])?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Exports {
    /// Begins to send what [`Exports::offer`] will name.
    #[must_use]
    pub fn start(
        trees: &Snapshotter,
        build: &Build,
        targets: &[CacheTarget],
        events: &Arc<dyn EventSink>,
    ) -> Self {
        let start = |target: &CacheTarget| Export::start(trees, build, target, events);
        Self(targets.iter().map(start).collect())
    }

    /// Sends a step's result to the remotes, whole to those that want it.
    pub fn offer(&self, id: StepId, step: &Step, filed: &Filed, parts: &[Part]) {
        for export in &self.0 {
            let wanted = export.wanted.as_ref();
            _ = export.jobs.send(Job {
                name: step.name.to_string(),
                filed: filed.clone(),
                parts: parts.iter().filter_map(remote_part).collect(),
                is_name: wanted.is_some_and(|all| !all.contains(&id)),
            });
        }
    }

    /// Waits until the remotes have what they were offered, and says for each what was sent.
    ///
    /// # Errors
    /// For each remote: when it can't be written, or trees can't be read.
    pub fn finish(mut self) -> Vec<Result<Exported, EngineError>> {
        self.0.drain(..).map(Export::finish).collect()
    }
}

impl Drop for Exports {
    /// A build that failed doesn't wait for its remotes.
    fn drop(&mut self) {
        for export in &self.0 {
            export.state.stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl Export {
    fn start(
        trees: &Snapshotter,
        build: &Build,
        target: &CacheTarget,
        events: &Arc<dyn EventSink>,
    ) -> Self {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let state = Arc::new(State {
            stopped: AtomicBool::new(false),
            has_names: AtomicBool::new(false),
            outcome: Mutex::new(Ok(Exported::default())),
        });
        let began = now();
        let thread = |_| {
            let (trees, target, events) = (trees.clone(), target.clone(), events.clone());
            let (waiting, state) = (waiting.clone(), state.clone());
            std::thread::spawn(move || {
                while let Some(job) = next(&waiting).filter(|_| !state.is_stopped()) {
                    state.note(send(&trees, &job, began, &target, &state, &*events));
                }
            })
        };
        Self {
            wanted: (target.mode == CacheMode::Min).then(|| own_steps(build)),
            remote: target.remote.clone(),
            jobs,
            threads: (0..AT_ONCE).map(thread).collect(),
            state,
        }
    }

    fn finish(self) -> Result<Exported, EngineError> {
        drop(self.jobs);
        for thread in self.threads {
            _ = thread.join();
        }
        // What was sent before a failure is of use, too.
        let finished = self.remote.finish();
        let mut outcome = self
            .state
            .outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sent = std::mem::replace(&mut *outcome, Ok(Exported::default()))?;
        finished.map_err(|source| EngineError::RemoteCache {
            remote: self.remote.name(),
            source,
        })?;
        Ok(sent)
    }
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}

/// The steps of the targets' own chains: those whose changes are in the image.
pub(crate) fn own_steps(build: &Build) -> BTreeSet<StepId> {
    let graph = &build.graph;
    let mut open = build.roots();
    let mut chain = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !chain.insert(id) {
            continue;
        }
        match &graph.step(id).op {
            Op::Merge { layers } => open.extend(layers.iter().map(|one| graph.input(id, *one))),
            op => open.extend(op.base().map(|base| graph.input(id, base))),
        }
    }
    chain
}

/// The bytes sent; `None` when the remote has the result, or gets only its name.
fn send(
    trees: &Snapshotter,
    job: &Job,
    began: Timestamp,
    target: &CacheTarget,
    state: &State,
    events: &dyn EventSink,
) -> Result<Option<u64>, EngineError> {
    let remote = &*target.remote;
    let fail = |source| EngineError::RemoteCache {
        remote: remote.name(),
        source,
    };
    let name = RemoteRecord::entry_name(&job.filed.key);
    if remote.entry(&name).map_err(fail)?.is_some() {
        return Ok(None);
    }
    let is_name = job.is_name || trees.check_named(&job.filed.added).is_err();
    let called = RemoteName::entry_name(&job.filed.key);
    if is_name && remote.entry(&called).map_err(fail)?.is_some() {
        return Ok(None);
    }
    let mut sent = 0;
    for part in &job.parts {
        let entry = part.signed(target.signer.as_ref());
        let name = RemotePart::entry_name(&part.part);
        sent += remote.put(&name, &entry, &[]).map_err(fail)?;
    }
    if is_name {
        let entry = name_of(&job.filed).signed(target.signer.as_ref());
        _ = remote.put(&called, &entry, &[]).map_err(fail)?;
        state.tell_of_names(remote).map_err(fail)?;
        return Ok(None);
    }
    let mut output = Vec::new();
    let mut files: Vec<BlobFile> = Vec::new();
    for layer in &job.filed.added {
        let (tree, own) = remote_tree(trees, layer, began, events)?;
        output.push(tree);
        files.extend(own);
    }
    let record = RemoteRecord {
        key: job.filed.key,
        name: job.name.clone(),
        took: u64::try_from(job.filed.took.as_millis()).unwrap_or(u64::MAX),
        created: job.filed.created,
        stdout: job.filed.stdout.clone(),
        output,
    };
    let entry = record.signed(target.signer.as_ref());
    let blobs = files.iter().map(|(digest, size, path)| RemoteBlob {
        digest: *digest,
        size: *size,
        path,
    });
    let blobs: Vec<RemoteBlob<'_>> = blobs.collect();
    sent += remote.put(&name, &entry, &blobs).map_err(fail)?;
    Ok(Some(sent))
}

/// A result without its files.
fn name_of(filed: &Filed) -> RemoteName {
    RemoteName {
        key: filed.key,
        created: filed.created,
        stdout: filed.stdout.clone(),
        added: filed.added.clone(),
    }
}

/// A tree as shared caches and clusters have it, and the files of its blobs: the manifest, then the
/// layer. Its files that were written since `since` are known to be whole.
///
/// # Errors
/// When the tree can't be read, or its layer not be written.
pub fn remote_tree(
    trees: &Snapshotter,
    tree: &TreeId,
    since: Timestamp,
    events: &dyn EventSink,
) -> Result<(RemoteTree, Vec<BlobFile>), EngineError> {
    let store = &trees.store;
    let own = trees.trees(&Snapshot::new(vec![LayerRef::Tree(*tree)]), events)?;
    let own = own
        .first()
        .map_or_else(|| store.trees().empty(), |tree| Ok(tree.clone()))?;
    let manifest = store
        .blobs()
        .put(&kiln_cache::manifest_file::write(&*own.manifest()?))?;
    let planned = PlannedLayer::Stack {
        layers: vec![LayerRef::Tree(*tree)],
        over_base: true,
    };
    let making = Making {
        name: format!("compress for cache {}", &tree.0.to_string()[..12]),
        options: &ImageOptions::default(),
        since,
        events,
    };
    let blob = own_blob(trees, &planned, &making)?;
    let stored = kept(store, &blob.blob)?;
    let files = vec![
        (manifest.digest, manifest.size, manifest.path),
        (stored.digest, stored.size, stored.path),
    ];
    let tree = RemoteTree {
        tree: *tree,
        manifest: RemoteManifest::Blob {
            manifest: manifest.digest,
            manifest_size: manifest.size,
        },
        layer: blob,
    };
    Ok((tree, files))
}

/// A part as remotes have it; nothing of what they have no name for.
fn remote_part(part: &Part) -> Option<RemotePart> {
    Some(RemotePart {
        part: part.name?,
        content: part.content,
    })
}
