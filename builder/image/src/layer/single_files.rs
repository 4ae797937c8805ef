//! Reads layers in zstd:chunked (see `zstd_chunked` for the format) file by file: what files there
//! are and where, and the tar that they are parts of. What a layer says of itself comes from a
//! stranger: nothing is trusted but digests.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_graph::BlobDigest;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::encode::Counting;
use super::zstd_chunked::PREFIX;

/// The longest metadata that is read, compressed, in bytes.
const MAX_PACKED: u64 = 64 << 20;
/// The longest table of contents, in bytes. It is read as it comes, and only files are kept of it.
const MAX_TABLE: u64 = 128 << 20;
/// The longest line of tar-split metadata: headers of one entry, in base64.
const MAX_LINE: u64 = 8 << 20;

/// Where a layer's metadata is, as the annotations of its descriptor say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    table: Part,
    split: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    range: Range<u64>,
    digest: BlobDigest,
}

/// A file of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleFile {
    /// Its name in the tar.
    pub name: String,
    /// Its length in bytes; never 0.
    pub size: u64,
    /// The digest of its content.
    pub digest: BlobDigest,
    /// Where in the blob its content is, as zstd frames.
    pub range: Range<u64>,
}

/// The files of a layer, in the tar's order, and what is between them.
#[derive(Clone, Debug)]
pub struct SingleFiles {
    /// The files that have content.
    pub files: Vec<SingleFile>,
    split: Vec<u8>,
}

/// Why a layer can't be read file by file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SingleFilesError {
    /// Its metadata is another than its image says.
    #[error("its {0} has another digest than its image says")]
    Digest(&'static str),
    /// Its metadata contradicts itself, or is too large.
    #[error("its metadata is wrong: {0}")]
    Metadata(&'static str),
    /// A file isn't what the table says.
    #[error("the content of {0:?} has another digest than its table of contents says")]
    Content(String),
    /// It can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Outcome<T> = Result<T, SingleFilesError>;

impl Metadata {
    /// What annotations say of a blob of `size` bytes. Nothing where they don't, or say what can't be.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>, size: u64) -> Option<Self> {
        let part = |kind: &str| {
            let said = |what: &str| annotations.get(&format!("{PREFIX}.{kind}-{what}"));
            let mut numbers = said("position")?.split(':').map(str::parse::<u64>);
            let (start, packed) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            let range = start..start.checked_add(packed)?;
            let digest = said("checksum")?.parse().ok()?;
            (range.end <= size).then_some(Part { range, digest })
        };
        let (table, split) = (part("manifest")?, part("tarsplit")?);
        let metadata = Self { table, split };
        let all = metadata.range();
        (1..=MAX_PACKED)
            .contains(&(all.end - all.start))
            .then_some(metadata)
    }

    /// The part of the blob that has all of it.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let (table, split) = (&self.table.range, &self.split.range);
        table.start.min(split.start)..table.end.max(split.end)
    }

    /// Reads that part.
    ///
    /// # Errors
    /// When it isn't what the image says, or can't be understood.
    pub fn read(&self, bytes: &[u8]) -> Outcome<SingleFiles> {
        let start = self.range().start;
        let part = |part: &Part, what| {
            let Range { start: from, end } = part.range;
            let at = [from, end].map(|at| usize::try_from(at - start).unwrap_or(usize::MAX));
            let own = bytes.get(at[0]..at[1]);
            own.filter(|own| BlobDigest::of(own) == part.digest)
                .ok_or(SingleFilesError::Digest(what))
        };
        let table = part(&self.table, "table of contents")?;
        let split = part(&self.split, "tar-split metadata")?;
        Ok(SingleFiles {
            files: files(table, self.table.range.start)?,
            split: split.to_vec(),
        })
    }
}

#[derive(Deserialize)]
struct Table {
    #[serde(default)]
    version: u32,
    #[serde(deserialize_with = "only_files")]
    entries: Vec<SingleFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TableEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    end_offset: u64,
    #[serde(default)]
    digest: String,
}

/// The entries that are files with content; a stranger's list of others fills no memory.
fn only_files<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<SingleFile>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Vec<SingleFile>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(entry) = list.next_element::<TableEntry>()? {
                if entry.kind == "reg" && entry.size > 0 {
                    files.push(SingleFile {
                        name: entry.name,
                        size: entry.size,
                        digest: entry.digest.parse().map_err(A::Error::custom)?,
                        range: entry.offset..entry.end_offset,
                    });
                }
            }
            Ok(files)
        }
    }
    list.deserialize_seq(Files)
}

/// The files of a table; what they are made of lies before `end` in the blob.
fn files(table: &[u8], end: u64) -> Outcome<Vec<SingleFile>> {
    let wrong = SingleFilesError::Metadata;
    let plain = zstd::stream::read::Decoder::new(table)?.take(MAX_TABLE);
    let table: Table = serde_json::from_reader(BufReader::new(plain))
        .map_err(|_| wrong("its table of contents can't be understood, or is too large"))?;
    if table.version != 1 {
        return Err(wrong("its table of contents has an unknown version"));
    }
    let is_somewhere =
        |file: &SingleFile| file.range.start < file.range.end && file.range.end <= end;
    match table.entries.iter().all(is_somewhere) {
        true => Ok(table.entries),
        false => Err(wrong("a file of its table of contents is nowhere")),
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    payload: Option<String>,
}

impl SingleFiles {
    /// Writes the tar, of at most `limit` bytes; `open` gives the content of a file, by its place in the list. Each
    /// content's digest is checked.
    ///
    /// # Errors
    /// When the metadata contradicts itself, a content is another, or something can't be read or
    /// written.
    pub fn write_tar<R: Read>(
        &self,
        limit: u64,
        mut open: impl FnMut(usize) -> io::Result<R>,
        out: &mut dyn Write,
    ) -> Outcome<()> {
        let wrong = SingleFilesError::Metadata;
        let mut lines = BufReader::new(zstd::stream::read::Decoder::new(&self.split[..])?);
        let (mut next, mut written) = (0, 0u64);
        let mut text = Vec::new();
        loop {
            text.clear();
            let count = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut text)?;
            if count == 0 {
                break;
            }
            let line: Line = serde_json::from_slice(&text)
                .map_err(|_| wrong("its tar-split metadata can't be understood"))?;
            let content = match line.kind {
                2 => STANDARD.decode(line.payload.unwrap_or_default()),
                1 => Ok(Vec::new()),
                _ => return Err(wrong("its tar-split metadata has an unknown line")),
            };
            let content =
                content.map_err(|_| wrong("its tar-split metadata can't be understood"))?;
            let size = if line.kind == 1 { line.size } else { 0 };
            written = written.saturating_add(content.len() as u64 + size);
            if written > limit {
                return Err(wrong("its tar is larger than its blob can be"));
            }
            out.write_all(&content)?;
            if size > 0 {
                let file = self.files.get(next).filter(|file| file.size == size);
                let file = file.ok_or(wrong("its tables know different files"))?;
                copy(file, open(next)?, out)?;
                next += 1;
            }
        }
        match next == self.files.len() {
            true => Ok(()),
            false => Err(wrong("its tables know different files")),
        }
    }
}

/// Copies a content that must be the file's.
fn copy(file: &SingleFile, content: impl Read, out: &mut dyn Write) -> Outcome<()> {
    let mut out = Counting::new(out);
    io::copy(&mut content.take(file.size + 1), &mut out)?;
    let (digest, size) = out.finish();
    match digest == file.digest && size <= file.size {
        true => Ok(()),
        false => Err(SingleFilesError::Content(file.name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        zstd::bulk::compress(text.as_bytes(), 3).unwrap()
    }

    /// A layer with one file of three bytes.
    fn layer(table: &str, split: &str) -> (Metadata, Vec<u8>) {
        let (table, split) = (packed(table), packed(split));
        let part = |bytes: &[u8], start: u64| Part {
            range: start..start + bytes.len() as u64,
            digest: BlobDigest::of(bytes),
        };
        let metadata = Metadata {
            table: part(&table, 100),
            split: part(&split, 100 + table.len() as u64),
        };
        (metadata, [table, split].concat())
    }

    fn table(from: u64, to: u64) -> String {
        let digest = BlobDigest::of(b"abc");
        format!(
            r#"{{"version":1,"entries":[{{"type":"dir","name":"d"}},{{"type":"reg","name":"d/f","size":3,"offset":{from},"endOffset":{to},"digest":"{digest}"}},{{"type":"reg","name":"empty"}}]}}"#
        )
    }

    const SPLIT: &str = r#"{"type":2,"payload":"aGVhZA==","position":0}
{"type":1,"name":"d/f","size":3,"payload":"AA==","position":1}
{"type":1,"name":"empty","payload":null,"position":2}
{"type":2,"payload":"dGFpbA==","position":3}
"#;

    fn tar(files: &SingleFiles, content: &[u8], limit: u64) -> Outcome<Vec<u8>> {
        let mut out = Vec::new();
        files.write_tar(limit, |_| Ok(content), &mut out)?;
        Ok(out)
    }

    #[test]
    fn a_tar_is_put_together() {
        let (metadata, bytes) = layer(&table(10, 20), SPLIT);
        let files = metadata.read(&bytes).unwrap();
        assert_eq!(files.files.len(), 1);
        assert_eq!(files.files[0].range, 10..20);
        assert_eq!(tar(&files, b"abc", 11).unwrap(), b"headabctail");
    }

    #[test]
    fn what_is_not_as_it_says_is_refused() {
        let (metadata, mut bytes) = layer(&table(10, 20), SPLIT);
        let files = metadata.read(&bytes).unwrap();
        for content in [&b"abd"[..], b"ab", b"", b"abcd"] {
            assert!(tar(&files, content, 100).is_err(), "{content:?}");
        }
        assert!(tar(&files, b"abc", 10).is_err());
        bytes[3] ^= 1;
        assert!(metadata.read(&bytes).is_err());
        assert!(metadata.read(&[]).is_err());
        for (table, split) in [
            (table(10, 101), SPLIT.to_owned()),
            (table(20, 10), SPLIT.to_owned()),
            (table(10, 20).replace(":1,", ":2,"), SPLIT.to_owned()),
            (table(10, 20).replace("sha256:", "md5:"), SPLIT.to_owned()),
            ("{".to_owned(), SPLIT.to_owned()),
            (table(10, 20), SPLIT.replace("\"size\":3", "\"size\":4")),
            (table(10, 20), SPLIT.replace("\"type\":1", "\"type\":2")),
            (table(10, 20), SPLIT.replace("\"type\":2", "\"type\":7")),
            (table(10, 20), SPLIT.replace("aGVhZA==", "?")),
            (table(10, 20), String::new()),
        ] {
            let (metadata, bytes) = layer(&table, &split);
            let read = metadata.read(&bytes);
            let made = read.and_then(|files| tar(&files, b"abc", 100));
            assert!(made.is_err(), "{table} {split}");
        }
    }

    #[test]
    fn annotations_say_where() {
        let digest = BlobDigest::of(b"");
        let said = |table: &str, split: &str| {
            let all = [
                ("manifest-position", table.to_owned()),
                ("manifest-checksum", digest.to_string()),
                ("tarsplit-position", split.to_owned()),
                ("tarsplit-checksum", digest.to_string()),
            ];
            let all = all.map(|(name, value)| (format!("{PREFIX}.{name}"), value));
            Metadata::of(&all.into(), 1000)
        };
        let range = said("100:50:400:1", "158:30:90").map(|metadata| metadata.range());
        assert_eq!(range, Some(100..188));
        for (table, split) in [
            ("100:901:1:1", "1:1:1"),
            ("18446744073709551615:2:1:1", "1:1:1"),
            ("", "1:1:1"),
            ("-1:2:3:1", "1:1:1"),
            ("1:1:1:1", "x"),
        ] {
            assert_eq!(said(table, split), None, "{table} {split}");
        }
        assert_eq!(Metadata::of(&BTreeMap::new(), 1000), None);
    }
}
