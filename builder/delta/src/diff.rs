//! Writes the difference of a layer: its tar, with contents taken from the old image's files where
//! that is shorter.

use std::io::{self, Read, Write};

use kiln_graph::Digest;

use crate::blocks::{Blocks, Part};
use crate::catalog::{Catalog, OldEntry};
use crate::format::max_prefixes;
use crate::frame;
use crate::old::{OldFile, OldFiles};
use crate::parts::{Parts, fill, split};
use crate::writer::Writer;

/// Larger files are cut, and each part is a frame of its own, in bytes.
const PIECE: usize = 64 << 20;
/// Larger old files are compared block by block, in bytes: they would have to be in memory.
const MAX_PREFIX: u64 = 256 << 20;
/// Shorter contents are not worth opening a file for, in bytes.
const SMALL: u64 = 64;

/// How much effort goes into a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// zstd level 3.
    #[default]
    Fast,
    /// zstd level 19: many times slower, for slow links.
    Best,
}

impl Level {
    fn zstd(self) -> i32 {
        match self {
            Self::Fast => 3,
            Self::Best => 19,
        }
    }
}

/// Where the bytes of a layer come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the tar.
    pub tar: u64,
    /// Bytes that are copied from old files.
    pub copied: u64,
    /// Bytes that are encoded relative to old files.
    pub patched: u64,
}

/// Writes the difference that gives `tar` to whoever has the files of `catalog`. The same input
/// gives the same bytes. At most a piece of the new file and one old file are in memory.
///
/// # Errors
/// When something can't be read, or `out` not be written.
pub fn diff<W: Write>(
    tar: impl Read,
    catalog: &Catalog,
    files: &dyn OldFiles,
    level: Level,
    out: W,
) -> io::Result<(W, Saved)> {
    let mut differ = Differ {
        catalog,
        files,
        level: level.zstd(),
        writer: Writer::new(out, level.zstd())?,
        saved: Saved::default(),
        prefixes: 0,
    };
    split(tar, &mut differ)?;
    Ok((differ.writer.finish()?, differ.saved))
}

struct Differ<'a, W: Write> {
    catalog: &'a Catalog,
    files: &'a dyn OldFiles,
    level: i32,
    writer: Writer<W>,
    saved: Saved,
    /// Bytes of prefixes so far.
    prefixes: u64,
}

impl<W: Write> Parts for Differ<'_, W> {
    fn between(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.saved.tar += bytes.len() as u64;
        self.writer.data(bytes)
    }

    fn content(&mut self, path: &[u8], size: u64, content: &mut dyn Read) -> io::Result<()> {
        let path = normalized(path);
        match usize::try_from(size) {
            Ok(size) if size <= PIECE => {
                let mut new = vec![0; size];
                let count = fill(content, &mut new)?;
                new.truncate(count);
                self.small_file(&path, &new)
            }
            _ => self.large_file(&path, size, content),
        }
    }
}

impl<'a, W: Write> Differ<'a, W> {
    /// A file that is in memory.
    fn small_file(&mut self, path: &str, new: &[u8]) -> io::Result<()> {
        if (new.len() as u64) < SMALL {
            return self.between(new);
        }
        if let Some(old) = self.catalog.same(&Digest::of(new)) {
            return self.copy(old, 0, new.len());
        }
        let Some((old, mut file)) = self.earlier(path, new.len() as u64)? else {
            return self.between(new);
        };
        match old.size <= MAX_PREFIX {
            true => {
                let prefix = file.read_all()?;
                self.patch(old, &prefix, new)
            }
            false => {
                let blocks = Blocks::of(&mut file)?;
                self.parts_of(old, &blocks, &mut file, new)
            }
        }
    }

    /// A file of which a piece at a time is in memory.
    fn large_file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut earlier = match self.earlier(path, size)? {
            Some((old, file)) => Some((old, Earlier::new(old, file)?)),
            None => None,
        };
        let mut piece = vec![0; PIECE];
        let mut position = 0;
        loop {
            let count = fill(content, &mut piece)?;
            if count == 0 {
                return Ok(());
            }
            let new = &piece[..count];
            match &mut earlier {
                Some((old, earlier)) => self.piece(old, earlier, position, new)?,
                None => self.between(new)?,
            }
            position += count as u64;
        }
    }

    fn piece(
        &mut self,
        old: &OldEntry,
        earlier: &mut Earlier,
        position: u64,
        new: &[u8],
    ) -> io::Result<()> {
        if earlier.has(position, new)? {
            return self.copy(old, position, new.len());
        }
        match earlier {
            Earlier::Prefix(prefix) => self.patch(old, prefix, new),
            Earlier::File(file, blocks) => self.parts_of(old, blocks, file, new),
        }
    }

    /// What is likely an earlier version of a file.
    fn earlier(&self, path: &str, size: u64) -> io::Result<Option<(&'a OldEntry, OldFile)>> {
        let catalog: &'a Catalog = self.catalog;
        let Some(old) = catalog.nearest(path, size) else {
            return Ok(None);
        };
        Ok(self.files.open(&old.path)?.map(|file| (old, file)))
    }

    fn copy(&mut self, old: &OldEntry, position: u64, size: usize) -> io::Result<()> {
        self.saved.tar += size as u64;
        self.saved.copied += size as u64;
        self.writer.copy(&old.path, position, size as u64)
    }

    /// Writes a frame with the old file as prefix, unless the bytes alone are shorter.
    fn patch(&mut self, old: &OldEntry, prefix: &[u8], new: &[u8]) -> io::Result<()> {
        let prefixes = self.prefixes + prefix.len() as u64;
        if prefixes > max_prefixes(self.saved.tar) {
            return self.between(new);
        }
        let frame = frame::encode(prefix, new, self.level)?;
        // A path and an operation are needed for it; bytes that compress that well are worth a look.
        let is_worth = frame.len() < new.len() / 8
            || frame.len() + old.path.len() / 2 < frame::plain_size(new, self.level)?;
        if !is_worth {
            return self.between(new);
        }
        self.prefixes = prefixes;
        self.saved.tar += new.len() as u64;
        self.saved.patched += new.len() as u64;
        self.writer.frame(&old.path, &frame)
    }

    fn parts_of(
        &mut self,
        old: &OldEntry,
        blocks: &Blocks,
        file: &mut OldFile,
        new: &[u8],
    ) -> io::Result<()> {
        let mut at = 0;
        for part in blocks.split(file, new)? {
            match part {
                Part::New(size) => {
                    self.between(&new[at..at + size])?;
                    at += size;
                }
                Part::Old { position, size } => {
                    self.copy(old, position, size)?;
                    at += size;
                }
            }
        }
        Ok(())
    }
}

/// The earlier version of a large file.
enum Earlier {
    /// In memory.
    Prefix(Vec<u8>),
    /// Too large for that.
    File(OldFile, Blocks),
}

impl Earlier {
    fn new(old: &OldEntry, mut file: OldFile) -> io::Result<Self> {
        if old.size <= MAX_PREFIX {
            return Ok(Self::Prefix(file.read_all()?));
        }
        let blocks = Blocks::of(&mut file)?;
        Ok(Self::File(file, blocks))
    }

    /// Whether it has the same bytes at the same position.
    fn has(&mut self, position: u64, new: &[u8]) -> io::Result<bool> {
        match self {
            Self::Prefix(prefix) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                Ok(prefix
                    .get(start..)
                    .is_some_and(|rest| rest.starts_with(new)))
            }
            Self::File(file, _) => {
                let mut same = vec![0; new.len()];
                let count = file.read_at(position, &mut same)?;
                Ok(same[..count] == *new)
            }
        }
    }
}

/// A path as the catalog has it.
fn normalized(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.trim_start_matches("./")
        .trim_start_matches('/')
        .to_owned()
}
