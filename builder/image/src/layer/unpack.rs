//! Unpacks a layer into a directory that overlayfs can mount, safely.
//!
//! Names come from strangers. Every path is made absolute and normalised, its parents are looked
//! up in what this very layer has unpacked so far (never on the host), links in them are followed
//! inside the layer only. Whiteouts (`.wh.NAME`, `.wh..wh..opq`; OCI image specification,
//! layer.md) become overlayfs's.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use kiln_graph::{BlobDigest, Digest, Entry, ImagePath, Manifest, Node, resolve};
use kiln_tree::{OverlayXattrs, TreeRoot, set_file_attributes};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::decompress::{decompressed, pump, read_ahead};
use super::pax_sparse::PaxSparse;
use super::tar_attributes::attributes;

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// Where opaque directories are marked.
    pub xattrs: OverlayXattrs,
    /// Whether files can be given to their owners; if not, only the manifest says who they are.
    pub give_away: bool,
    /// Whether names that begin with `.wh.` remove what is below the layer. In an archive that is
    /// no layer they are files.
    pub whiteouts: bool,
}

/// An unpacked layer.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What it contains.
    pub manifest: Manifest,
    /// Directories that no entry spoke of, but that others needed.
    pub implied: BTreeSet<ImagePath>,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
}

/// Unpacks a layer into an empty directory.
///
/// # Errors
/// When the stream can't be read or isn't a tar, an entry can't be what it claims, or the directory
/// can't be written.
pub fn unpack(
    reader: impl Read + Send,
    directory: &TreeRoot,
    options: &UnpackOptions,
) -> io::Result<Unpacked> {
    std::thread::scope(|scope| {
        let (send, ahead) = read_ahead();
        scope.spawn(move || match decompressed(reader) {
            Ok(plain) => pump(plain, &send),
            Err(error) => _ = send.send(Err(error)),
        });
        let headers = Cell::new(None);
        let mut stream = HashingReader {
            inner: ahead,
            hash: Sha256::new(),
            headers: &headers,
        };
        let mut unpacker = Unpacker::new(directory, options);
        unpacker.read_all(&mut stream, &headers)?;
        io::copy(&mut stream, &mut io::sink())?;
        let diff_id = BlobDigest::from_sha256(stream.hash.finalize().into());
        let implied = std::mem::take(&mut unpacker.implied);
        Ok(Unpacked {
            manifest: unpacker.finish()?,
            implied,
            diff_id,
        })
    })
}

struct HashingReader<'a, R> {
    inner: R,
    hash: Sha256,
    /// How much of an entry's header has been read, while one is.
    headers: &'a Cell<Option<u64>>,
}

/// What comes before one entry's content (its header, PAX records, long names, a map of holes) is
/// read into memory: a few compressed bytes must not fill it.
const MAX_HEADERS: u64 = 4 << 20;

impl<R: Read> Read for HashingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        let read = self.headers.get().map(|read| read + count as u64);
        self.headers.set(read);
        if read > Some(MAX_HEADERS) {
            return Err(invalid("an entry's header is larger than 4 MiB"));
        }
        Ok(count)
    }
}

struct Unpacker<'a> {
    directory: &'a TreeRoot,
    options: &'a UnpackOptions,
    entries: BTreeMap<ImagePath, Entry>,
    implied: BTreeSet<ImagePath>,
    /// Whether any file may have several names.
    has_links: bool,
}

impl<'a> Unpacker<'a> {
    fn new(directory: &'a TreeRoot, options: &'a UnpackOptions) -> Self {
        Self {
            directory,
            options,
            entries: BTreeMap::new(),
            implied: BTreeSet::new(),
            has_links: false,
        }
    }

    fn read_all(&mut self, stream: &mut impl Read, headers: &Cell<Option<u64>>) -> io::Result<()> {
        let mut archive = tar::Archive::new(stream);
        let mut entries = archive.entries()?;
        loop {
            headers.set(Some(0));
            let entry = entries.next();
            headers.set(None);
            let Some(entry) = entry else { return Ok(()) };
            let mut entry = entry?;
            let sparse = PaxSparse::of(&mut entry)?;
            let own = sparse.as_ref().and_then(|sparse| sparse.name.clone());
            let name = own.unwrap_or_else(|| entry.path_bytes().into_owned());
            self.one(&mut entry, &name, sparse).map_err(|error| {
                let name = String::from_utf8_lossy(&name);
                io::Error::new(error.kind(), format!("entry '{name}': {error}"))
            })?;
            // Content that nobody asked for is no part of the next header.
            io::copy(&mut entry, &mut io::sink())?;
        }
    }

    fn one(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        name: &[u8],
        sparse: Option<PaxSparse>,
    ) -> io::Result<()> {
        let path = ImagePath::new(name);
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || path.is_root() {
            return Ok(());
        }
        let parent = self.directory_for(&path.parent().unwrap_or_default())?;
        let file_name = path.file_name().unwrap_or_default();
        let mark = file_name.strip_prefix(b".wh.");
        if let Some(hidden) = mark.filter(|_| self.options.whiteouts) {
            if hidden == b".wh..opq" {
                return self.make_opaque(&parent);
            }
            return match hidden {
                b"" | b"." | b".." => Err(invalid("is a whiteout of no name")),
                // What aufs kept for itself.
                hidden if hidden.starts_with(b".wh.") => Ok(()),
                hidden => self.whiteout(parent.join(hidden)),
            };
        }
        let meta = attributes(entry, parent.join(file_name))?;
        match sparse {
            Some(sparse) => {
                self.clear(&meta.path)?;
                self.place_file(&mut sparse.content(entry)?, meta)
            }
            None => self.place(entry, meta, kind),
        }
    }

    fn place(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        mut meta: Entry,
        kind: EntryType,
    ) -> io::Result<()> {
        if kind == EntryType::Directory {
            self.implied.remove(&meta.path);
            return self.place_directory(meta);
        }
        self.clear(&meta.path)?;
        let device = || -> io::Result<(u32, u32)> {
            let header = entry.header();
            Ok((
                header.device_major()?.unwrap_or(0),
                header.device_minor()?.unwrap_or(0),
            ))
        };
        meta.node = match kind {
            EntryType::Symlink => Node::Symlink {
                target: link_name(entry)?,
            },
            EntryType::Link => return self.hard_link(&link_name(entry)?, meta.path),
            EntryType::Fifo => Node::Fifo,
            // Overlayfs would take the device for a whiteout.
            EntryType::Char if device()? == (0, 0) => return self.whiteout(meta.path),
            EntryType::Char => device().map(|(major, minor)| Node::CharDevice { major, minor })?,
            EntryType::Block => {
                device().map(|(major, minor)| Node::BlockDevice { major, minor })?
            }
            _ => return self.place_file(entry, meta),
        };
        self.directory.create_special(&meta.path, &meta.node)?;
        self.directory
            .set_attributes(&meta, self.options.give_away)?;
        self.entries.insert(meta.path.clone(), meta);
        Ok(())
    }

    fn place_file(&mut self, reader: &mut impl Read, mut meta: Entry) -> io::Result<()> {
        let mut file = self.directory.create_file(&meta.path)?;
        meta.node = write_content(reader, &mut file)?;
        set_file_attributes(&file, &meta, self.options.give_away)?;
        self.entries.insert(meta.path.clone(), meta);
        Ok(())
    }

    fn place_directory(&mut self, mut meta: Entry) -> io::Result<()> {
        match self.entries.get(&meta.path).map(|entry| entry.node.clone()) {
            Some(there @ Node::Directory { .. }) => meta.node = there,
            _ => {
                self.clear(&meta.path)?;
                self.directory.create_directory(&meta.path)?;
            }
        }
        self.directory
            .set_attributes(&meta, self.options.give_away)?;
        self.entries.insert(meta.path.clone(), meta);
        Ok(())
    }

    /// The directory that `path` stands for, made when missing, links followed inside the layer.
    fn directory_for(&mut self, path: &ImagePath) -> io::Result<ImagePath> {
        let link = |path: &ImagePath| match self.entries.get(path).map(|entry| &entry.node) {
            Some(Node::Symlink { target }) => Some(target.clone()),
            _ => None,
        };
        let found = resolve(path, true, link).map_err(io::Error::other)?;
        let is_directory = |entry: &&Entry| entry.is_directory();
        if self.entries.get(&found).filter(is_directory).is_some() {
            return Ok(found);
        }
        for directory in found.ancestors().skip(1).chain([found.clone()]) {
            if !directory.is_root() && self.entries.get(&directory).filter(is_directory).is_none() {
                self.place_directory(Entry::directory(directory.clone()))?;
                self.implied.insert(directory);
            }
        }
        Ok(found)
    }

    /// Removes what the layer has put at a path before: the later entry counts.
    fn clear(&mut self, path: &ImagePath) -> io::Result<()> {
        let below: Vec<ImagePath> = self
            .entries
            .range(path.clone()..)
            .map(|(below, _)| below.clone())
            .take_while(|below| below.starts_with(path))
            .collect();
        if below.is_empty() {
            return Ok(());
        }
        // A whiteout may be in the manifest alone.
        match self.directory.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        for gone in below {
            self.entries.remove(&gone);
        }
        Ok(())
    }

    fn hard_link(&mut self, target: &[u8], path: ImagePath) -> io::Result<()> {
        let target = ImagePath::new(target);
        let parent = self.directory_for(&target.parent().unwrap_or_default())?;
        let target = parent.join(target.file_name().unwrap_or_default());
        let Some(linked) = self.entries.get(&target) else {
            let text = format!("is a hard link to {target}, which this layer does not have");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        if linked.is_directory() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "is a hard link to a directory",
            ));
        }
        let linked = linked.clone();
        self.directory.link(&path, &self.directory.join(target))?;
        self.has_links = true;
        self.entries.insert(path.clone(), Entry { path, ..linked });
        Ok(())
    }

    fn make_opaque(&mut self, directory: &ImagePath) -> io::Result<()> {
        self.directory.mark_opaque(directory, self.options.xattrs)?;
        if let Some(entry) = self.entries.get_mut(directory) {
            entry.node = Node::Directory { opaque: true };
        }
        Ok(())
    }

    fn whiteout(&mut self, path: ImagePath) -> io::Result<()> {
        self.clear(&path)?;
        self.directory.create_special(&path, &Node::Whiteout)?;
        let entry = Entry {
            mode: 0,
            node: Node::Whiteout,
            ..Entry::directory(path.clone())
        };
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Sets the directories' times, which their content has changed, and joins hard links.
    fn finish(self) -> io::Result<Manifest> {
        let mut first: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
        let mut entries: Vec<Entry> = self.entries.into_values().collect();
        for entry in &mut entries {
            match entry.node {
                Node::Directory { .. } => self.directory.set_time(&entry.path, entry.mtime)?,
                Node::File { .. } if self.has_links => {
                    join_link(entry, self.directory, &mut first)?;
                }
                _ => {}
            }
        }
        Ok(Manifest::new(entries))
    }
}

fn join_link(
    entry: &mut Entry,
    directory: &TreeRoot,
    first: &mut BTreeMap<(u64, u64), ImagePath>,
) -> io::Result<()> {
    let stat = directory.stat(&entry.path)?;
    if stat.st_nlink > 1 {
        match first.get(&(stat.st_dev, stat.st_ino)) {
            Some(to) => entry.node = Node::HardLink { to: to.clone() },
            None => _ = first.insert((stat.st_dev, stat.st_ino), entry.path.clone()),
        }
    }
    Ok(())
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

fn link_name(entry: &tar::Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "is a link without a target");
    Ok(entry.link_name_bytes().ok_or_else(missing)?.into_owned())
}

fn write_content(reader: &mut impl Read, file: &mut File) -> io::Result<Node> {
    let mut hash = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        size += count as u64;
        // A few bytes can unpack to terabytes of zeros.
        if buffer[..count].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(count as i64))?;
        } else {
            file.write_all(&buffer[..count])?;
        }
    }
    file.set_len(size)?;
    Ok(Node::File {
        size,
        digest: Digest::from(hash.finalize()),
    })
}
