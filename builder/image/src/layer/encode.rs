//! Writes a tree as a layer: entries in path order, names and owners by number only, whiteouts as
//! the OCI image specification writes them. The same tree gives the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use kiln_graph::{BlobDigest, Digest, Entry, ImagePath, Node, Timestamp};
use sha2::{Digest as _, Sha256};

use super::header::{BLOCK, Header};

/// Where the content of a tree's files is.
pub trait ContentSource: Sync {
    /// Opens a file of the tree.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, entry: &Entry) -> io::Result<File>;

    /// Is told how many bytes of a file were written.
    ///
    /// # Errors
    /// When no more are to be: the writing ends with it.
    fn advance(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

impl<F: Fn(&Entry) -> io::Result<File> + Sync> ContentSource for F {
    fn open(&self, entry: &Entry) -> io::Result<File> {
        self(entry)
    }
}

/// How a tree is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions {
    /// Times later than this are written as this (`SOURCE_DATE_EPOCH`).
    pub latest: Option<Timestamp>,
    /// Files that were written since then are taken to be what was hashed when they were: this
    /// spares a fresh build from hashing all again. All others are compared with their digests.
    pub fresh_since: Option<Timestamp>,
}

impl EncodeOptions {
    fn trusts(&self, file: &File) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let Some(since) = self.fresh_since else {
            return Ok(false);
        };
        let about = file.metadata()?;
        let changed = (about.ctime(), about.ctime_nsec());
        Ok(changed >= (since.seconds, since.nanos.into()))
    }
}

/// A written layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Digest of the bytes written.
    pub blob: BlobDigest,
    /// Number of bytes written.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
    /// What the layer's descriptor must say for its files to be found.
    pub annotations: BTreeMap<String, String>,
}

/// Takes a tar, and is told where its parts begin and end.
pub(crate) trait Parts: Write {
    /// An entry's header comes next.
    fn header(&mut self, _header: &Header<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The content of the file whose header was the last comes next.
    fn content_begins(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The content is all there.
    fn content_ends(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tar as a stream of bytes.
struct Plain<'a>(&'a mut dyn Write);

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Parts for Plain<'_> {}

/// Digests and counts what passes through.
pub(crate) struct Counting<W> {
    pub(crate) inner: W,
    hash: Sha256,
    pub(crate) size: u64,
}

impl<W> Counting<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// The writer, and the digest of what went to it.
    pub(crate) fn into_parts(self) -> (W, BlobDigest) {
        let digest = BlobDigest::from_sha256(self.hash.finalize().into());
        (self.inner, digest)
    }

    /// The digest, and the number of bytes.
    pub(crate) fn finish(self) -> (BlobDigest, u64) {
        (
            BlobDigest::from_sha256(self.hash.finalize().into()),
            self.size,
        )
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a tar of entries sorted by path.
///
/// # Errors
/// When a file can't be read or isn't what its entry says, or `out` can't be written.
pub fn write_tar(
    entries: &[Entry],
    source: &dyn ContentSource,
    out: &mut dyn Write,
    options: &EncodeOptions,
) -> io::Result<()> {
    write_parts(entries, source, &mut Plain(out), options)?;
    out.write_all(&TAR_END)
}

/// The two blocks after the last entry.
pub(crate) const TAR_END: [u8; BLOCK * 2] = [0; BLOCK * 2];

/// Writes the entries of a tar, without its end.
pub(crate) fn write_parts(
    entries: &[Entry],
    source: &dyn ContentSource,
    out: &mut dyn Parts,
    options: &EncodeOptions,
) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let by_path: BTreeMap<&ImagePath, &Entry> = entries
        .iter()
        .filter(|entry| matches!(entry.node, Node::File { .. }))
        .map(|entry| (&entry.path, entry))
        .collect();
    for entry in entries {
        write_entry(entry, &by_path, source, out, options, &mut buffer)?;
    }
    Ok(())
}

fn write_entry(
    entry: &Entry,
    by_path: &BTreeMap<&ImagePath, &Entry>,
    source: &dyn ContentSource,
    out: &mut dyn Parts,
    options: &EncodeOptions,
    buffer: &mut [u8],
) -> io::Result<()> {
    let Some(kind) = type_flag(&entry.node) else {
        return Ok(());
    };
    let latest = options.latest.unwrap_or(entry.mtime);
    let mut header = Header {
        name: name(entry),
        kind,
        link: b"",
        size: 0,
        device: (0, 0),
        entry,
        mtime: entry.mtime.min(latest),
    };
    match &entry.node {
        Node::File { size, .. } => header.size = *size,
        Node::HardLink { to } => header.link = to.relative_bytes(),
        Node::Symlink { target } => header.link = target,
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            header.device = (*major, *minor);
        }
        _ => {}
    }
    let linked = match &entry.node {
        Node::HardLink { to } => by_path.get(to).copied(),
        _ => None,
    };
    header.entry = linked.unwrap_or(entry);
    out.header(&header)?;
    out.write_all(&header.encode())?;
    if let Node::File { size, digest } = entry.node {
        let mut file = source.open(entry)?;
        let mut hash = (!options.trusts(&file)?).then(blake3::Hasher::new);
        let mut content = Content {
            entry,
            size,
            source,
            hash: hash.as_mut(),
        };
        content.copy(&mut file, out, buffer)?;
        if hash.is_some_and(|hash| Digest::from(hash.finalize()) != digest) {
            return Err(ContentChanged(entry.path.to_string()).into());
        }
    }
    if entry.node == (Node::Directory { opaque: true }) {
        write_opaque(entry, header.mtime, out)?;
    }
    Ok(())
}

/// The mark stands directly behind its directory, before everything in it.
fn write_opaque(directory: &Entry, mtime: Timestamp, out: &mut dyn Parts) -> io::Result<()> {
    let path = directory.path.join(".wh..wh..opq");
    let mark = Entry {
        mode: 0,
        ..Entry::directory(path.clone())
    };
    let name = path.relative_bytes().to_vec();
    let header = Header {
        name,
        kind: b'0',
        link: b"",
        size: 0,
        device: (0, 0),
        entry: &mark,
        mtime,
    };
    out.header(&header)?;
    out.write_all(&header.encode())
}

fn type_flag(node: &Node) -> Option<u8> {
    Some(match node {
        Node::File { .. } | Node::Whiteout => b'0',
        Node::HardLink { .. } => b'1',
        Node::Symlink { .. } => b'2',
        Node::CharDevice { .. } => b'3',
        Node::BlockDevice { .. } => b'4',
        Node::Directory { .. } => b'5',
        Node::Fifo => b'6',
        Node::Socket => return None,
    })
}

fn name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.relative_bytes().to_vec();
    match entry.node {
        Node::Directory { .. } => name.push(b'/'),
        Node::Whiteout => {
            let base = entry.path.file_name().map_or(0, <[u8]>::len);
            let at = name.len() - base;
            name.splice(at..at, *b".wh.");
        }
        _ => {}
    }
    name
}

/// The content of a file on its way into a tar.
struct Content<'a> {
    entry: &'a Entry,
    size: u64,
    source: &'a dyn ContentSource,
    hash: Option<&'a mut blake3::Hasher>,
}

impl Content<'_> {
    fn copy(&mut self, file: &mut File, out: &mut dyn Parts, buffer: &mut [u8]) -> io::Result<()> {
        let mut left = self.size;
        if self.size > 0 {
            out.content_begins()?;
        }
        while left > 0 {
            let want = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut buffer[..want])?;
            if count == 0 {
                return Err(ContentChanged(self.entry.path.to_string()).into());
            }
            if let Some(hash) = &mut self.hash {
                hash.update(&buffer[..count]);
            }
            out.write_all(&buffer[..count])?;
            self.source.advance(count as u64)?;
            left -= count as u64;
        }
        if self.size > 0 {
            out.content_ends()?;
        }
        let padding = self.size.next_multiple_of(BLOCK as u64) - self.size;
        out.write_all(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)])
    }
}

/// A stored file is not what it was when it was stored: a disk or memory has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the content of {0} changed in the store: 'kiln fsck --repair' removes what is damaged, so that it is made again"
)]
pub struct ContentChanged(pub String);

impl From<ContentChanged> for io::Error {
    fn from(changed: ContentChanged) -> Self {
        Self::new(io::ErrorKind::InvalidData, changed)
    }
}

impl ContentChanged {
    /// Whether this is why something could not be read.
    #[must_use]
    pub fn is_cause_of(error: &io::Error) -> bool {
        let inner = error.get_ref();
        inner
            .and_then(|inner| inner.downcast_ref::<Self>())
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A source of one file, of which no more than `most` bytes are wanted.
    struct Told {
        file: tempfile::NamedTempFile,
        most: u64,
        told: Mutex<Vec<u64>>,
    }

    impl ContentSource for Told {
        fn open(&self, _: &Entry) -> io::Result<File> {
            self.file.reopen()
        }

        fn advance(&self, bytes: u64) -> io::Result<()> {
            let mut told = self.told.lock().unwrap();
            told.push(bytes);
            match told.iter().sum::<u64>() > self.most {
                true => Err(io::Error::other("cancelled")),
                false => Ok(()),
            }
        }
    }

    #[test]
    fn a_large_file_is_told_of_as_it_is_written() {
        let bytes = vec![7_u8; 1 << 20];
        let entry = Entry {
            mode: 0o644,
            node: Node::File {
                size: bytes.len() as u64,
                digest: Digest::of(&bytes),
            },
            ..Entry::directory(ImagePath::new("/a"))
        };
        for (most, written) in [(1 << 20, true), (1 << 19, false)] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let source = Told {
                file,
                most,
                told: Mutex::default(),
            };
            let entries = std::slice::from_ref(&entry);
            let done = write_tar(entries, &source, &mut io::sink(), &EncodeOptions::default());
            assert_eq!(done.is_ok(), written);
            let told = source.told.into_inner().unwrap();
            assert!(told.len() > 1, "{told:?}");
            assert!(told.iter().sum::<u64>() < most + (1 << 19), "{told:?}");
        }
    }
}
