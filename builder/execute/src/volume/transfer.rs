//! Cache volumes that travel. Format 1: the entry `volume-<blake3 of the name>` is one
//! [`RemoteVolume`]; the contents of all files in path order, one after the other, are cut where
//! their content says (FastCDC) and each piece is a blob compressed with zstd, so that a second
//! export after a small change sends little.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use fastcdc::v2020::StreamCDC;
use kiln_cache::{Store, StoreError, manifest_file};
use kiln_graph::{BlobDigest, Digest, Entry, ImagePath, Manifest, Node, Timestamp, TreeId};
use kiln_share::{CacheSigner, CacheSource, Remote, RemoteBlob, RemoteError, entry_bytes};
use kiln_tree::upper::{self, UpperOptions};
use kiln_tree::{TreePath, TreeRoot, host, set_file_attributes, timestamp};
use serde::{Deserialize, Serialize};

use crate::EngineError;
use crate::snapshotter::Snapshotter;

const MIN_PIECE: u32 = 256 << 10;
const USUAL_PIECE: u32 = 1 << 20;
const MAX_PIECE: u32 = 4 << 20;
const LEVEL: i32 = 3;

/// A volume on a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RemoteVolume {
    name: String,
    /// The volume's own directory.
    root: Entry,
    tree: TreeId,
    manifest: BlobDigest,
    manifest_size: u64,
    chunks: Vec<Chunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Chunk {
    blob: BlobDigest,
    size: u64,
}

/// How much a volume's transfer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeTransfer {
    /// The bytes of all its files.
    pub plain: u64,
    /// The bytes that went over.
    pub sent: u64,
}

fn entry_name(name: &str) -> String {
    format!("volume-{}", Digest::of(name.as_bytes()))
}

/// Sends a volume to a remote, under a name there: what the remote lacks of it. Waits until no step
/// uses it, and keeps others from it until it has been read.
///
/// # Errors
/// When the volume can't be read or the remote can't be written.
pub fn export_volume(
    store: &Store,
    name: &str,
    theirs: &str,
    remote: &dyn Remote,
    signer: Option<&CacheSigner>,
) -> Result<VolumeTransfer, EngineError> {
    let fail = |error| failed(remote, error);
    let volume = store.volumes().take_alone(name, &|| false)?;
    let volume =
        volume.ok_or_else(|| EngineError::Refused(format!("there is no cache volume {name}")))?;
    let manifest = scan(store, volume.root())?;
    let pieces = cut(store, volume.root(), &manifest)?;
    let stored = store.blobs().put(&manifest_file::write(&manifest))?;
    let about = RemoteVolume {
        name: theirs.to_owned(),
        root: own_entry(volume.root())
            .map_err(|error| fail(RemoteError::Local(error.to_string())))?,
        tree: manifest.id(),
        manifest: stored.digest,
        manifest_size: stored.size,
        chunks: pieces.iter().map(|(chunk, _)| *chunk).collect(),
    };
    // All of it lies in blobs now.
    drop(volume);
    let entry = entry_name(theirs);
    let bytes = entry_bytes(&entry, &about, signer);
    let mut seen = BTreeSet::new();
    let distinct = pieces.iter().filter(|(chunk, _)| seen.insert(*chunk));
    let mut blobs: Vec<RemoteBlob<'_>> = distinct
        .map(|(chunk, path)| RemoteBlob {
            digest: chunk.blob,
            size: chunk.size,
            path,
        })
        .collect();
    blobs.push(RemoteBlob {
        digest: stored.digest,
        size: stored.size,
        path: &stored.path,
    });
    let sent = remote.put(&entry, &bytes, &blobs).map_err(fail)?;
    remote.finish().map_err(fail)?;
    let plain = manifest.size();
    Ok(VolumeTransfer { plain, sent })
}

/// What a volume holds.
pub(crate) fn scan(store: &Store, root: &TreeRoot) -> Result<Manifest, EngineError> {
    let keep = |_: &ImagePath, uid, gid| (uid, gid);
    // Build tools decide by times: all of them count.
    let started = Timestamp {
        seconds: i64::MIN,
        nanos: 0,
    };
    let options = UpperOptions {
        xattrs: store.xattrs(),
        started,
        owner: &keep,
    };
    Ok(upper::scan(root, &options).map_err(StoreError::from)?)
}

/// The pieces of a volume's content, each as a blob of the store.
fn cut(
    store: &Store,
    root: &TreeRoot,
    manifest: &Manifest,
) -> Result<Vec<(Chunk, PathBuf)>, EngineError> {
    let fail = |source| EngineError::Output {
        what: "a volume's pieces".to_owned(),
        source,
    };
    let content = Content::new(root, manifest);
    let mut pieces = Vec::new();
    for piece in StreamCDC::new(
        content,
        MIN_PIECE as usize,
        USUAL_PIECE as usize,
        MAX_PIECE as usize,
    ) {
        let piece = piece.map_err(|error| fail(io::Error::other(error.to_string())))?;
        let packed = zstd::bulk::compress(&piece.data, LEVEL).map_err(fail)?;
        let blob = store.blobs().put(&packed)?;
        let chunk = Chunk {
            blob: blob.digest,
            size: blob.size,
        };
        pieces.push((chunk, blob.path));
    }
    Ok(pieces)
}

/// Replaces a volume by one of a shared cache; `None` when that has none of this name. Nothing is
/// seen of it before it is whole.
///
/// # Errors
/// When the cache is damaged or can't be read, or a step holds the volume.
pub fn import_volume(
    trees: &Snapshotter,
    theirs: &str,
    name: &str,
    source: &CacheSource,
) -> Result<Option<VolumeTransfer>, EngineError> {
    let (remote, store) = (source.remote(), &trees.store);
    let fail = |error| failed(remote, error);
    let damaged = |reason: String| fail(RemoteError::Damaged(reason));
    let entry = entry_name(theirs);
    let Some(text) = source.entry(&entry).map_err(fail)? else {
        return Ok(None);
    };
    let about: RemoteVolume = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("{entry} can't be understood: {error}")))?;
    let manifest = piece(store, remote, &about.manifest, about.manifest_size)?;
    let manifest = manifest_file::read_of(&manifest, &about.tree)
        .ok_or_else(|| damaged("a volume's manifest is damaged".to_owned()))?;
    let staging = store.staging()?;
    let mut pieces = Pieces {
        store,
        remote,
        chunks: about.chunks.iter(),
        open: io::Cursor::new(Vec::new()),
    };
    let own = Entry {
        path: ImagePath::root(),
        ..about.root
    };
    restore(&manifest, staging.root(), &mut pieces, trees.gives_away)
        .and_then(|()| staging.root().set_attributes(&own, trees.gives_away))
        .map_err(|error| damaged(error.to_string()))?;
    store.volumes().replace(name, staging, &|| false)?;
    let sent = about.chunks.iter().map(|chunk| chunk.size).sum::<u64>() + about.manifest_size;
    let plain = manifest.size();
    Ok(Some(VolumeTransfer { plain, sent }))
}

/// A blob's bytes, checked; kept in the store for the next export.
fn piece(
    store: &Store,
    remote: &dyn Remote,
    digest: &BlobDigest,
    size: u64,
) -> Result<Vec<u8>, EngineError> {
    let blob = match store.blobs().get(digest)? {
        Some(blob) => blob,
        None => {
            let mut writer = store.blobs().writer()?;
            remote
                .blob(digest, size, &mut writer)
                .map_err(|error| failed(remote, error))?;
            writer
                .commit(Some(*digest))
                .map_err(|error| failed(remote, RemoteError::Damaged(error.to_string())))?
        }
    };
    host::read(&blob.path).map_err(|error| failed(remote, RemoteError::Local(error.to_string())))
}

/// The attributes of a volume's own directory, which its manifest has no entry for.
pub(crate) fn own_entry(root: &TreeRoot) -> io::Result<Entry> {
    let about = root.stat(&ImagePath::root())?;
    Ok(Entry {
        mode: about.st_mode & 0o7777,
        uid: about.st_uid,
        gid: about.st_gid,
        mtime: timestamp(&about),
        ..Entry::directory(ImagePath::root())
    })
}

fn failed(remote: &dyn Remote, source: RemoteError) -> EngineError {
    EngineError::RemoteCache {
        remote: remote.name(),
        source,
    }
}

/// The contents of all files, one after the other.
struct Content {
    files: std::vec::IntoIter<TreePath>,
    open: Option<File>,
}

impl Content {
    fn new(root: &TreeRoot, manifest: &Manifest) -> Self {
        let is_file = |entry: &&Entry| matches!(entry.node, Node::File { .. });
        let files = manifest.entries().iter().filter(is_file);
        let files: Vec<TreePath> = files.map(|entry| root.join(entry.path.clone())).collect();
        Self {
            files: files.into_iter(),
            open: None,
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                match file.read(buffer)? {
                    0 => self.open = None,
                    count => return Ok(count),
                }
            }
            match self.files.next() {
                Some(path) => self.open = Some(path.open_file()?),
                None => return Ok(0),
            }
        }
    }
}

/// The pieces, unpacked, one after the other.
struct Pieces<'a> {
    store: &'a Store,
    remote: &'a dyn Remote,
    chunks: std::slice::Iter<'a, Chunk>,
    open: io::Cursor<Vec<u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.open.read(buffer)? {
                0 => {}
                count => return Ok(count),
            }
            let Some(chunk) = self.chunks.next() else {
                return Ok(0);
            };
            let packed = piece(self.store, self.remote, &chunk.blob, chunk.size);
            let packed = packed.map_err(|error| io::Error::other(error.to_string()))?;
            self.open = io::Cursor::new(zstd::bulk::decompress(&packed, MAX_PIECE as usize)?);
        }
    }
}

/// Makes a manifest's entries in an empty directory, with their names, modes, times and links.
fn restore(
    manifest: &Manifest,
    to: &TreeRoot,
    content: &mut dyn Read,
    give_away: bool,
) -> io::Result<()> {
    for entry in manifest.entries() {
        match &entry.node {
            Node::Directory { .. } if entry.path.is_root() => {}
            Node::Directory { .. } => to.create_directory(&entry.path)?,
            Node::File { size, digest } => {
                let file = write_file(to, entry, *size, *digest, content)?;
                set_file_attributes(&file, entry, give_away)?;
            }
            Node::HardLink { to: first } => to.link(&entry.path, &to.join(first.clone()))?,
            Node::Whiteout | Node::Socket => {}
            node => {
                if to.create_node(&entry.path, node)? {
                    to.set_attributes(entry, give_away)?;
                }
            }
        }
    }
    // Directories last: what is made in them changes their times.
    let directories = manifest.entries().iter().rev();
    for entry in directories.filter(|entry| entry.is_directory()) {
        to.set_attributes(entry, give_away)?;
    }
    Ok(())
}

fn write_file(
    to: &TreeRoot,
    entry: &Entry,
    size: u64,
    digest: Digest,
    content: &mut dyn Read,
) -> io::Result<File> {
    let mut file = to.create_file(&entry.path)?;
    let copied = io::copy(&mut { content }.take(size), &mut file)?;
    file.flush()?;
    if copied == size && to.digest(&entry.path)? == digest {
        return Ok(file);
    }
    Err(io::Error::other(
        "a volume's files are not what its manifest says",
    ))
}
