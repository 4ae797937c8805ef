//! The table of contents of seekable layers: the JSON that both eStargz and zstd:chunked took over
//! from CRFS, an object with `version` 1 and `entries` in the tar's order. A file that is compressed
//! in several pieces has an entry of type `chunk` for each after the first.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_graph::{BlobDigest, Timestamp};
use serde::Serialize;

use super::compress::Span;
use super::header::Header;

/// A piece of a file's content that was compressed by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// Which of the compressed blocks it is.
    pub(crate) block: usize,
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Its length, uncompressed.
    pub(crate) size: u64,
    /// Its own digest.
    pub(crate) digest: BlobDigest,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: BlobDigest,
    pub(crate) chunks: Vec<Chunk>,
}

/// An entry of the table, as it stands in the JSON.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TocEntry {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty", rename = "modtime")]
    mtime: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TocEntry {
    /// What a tar header says.
    pub(crate) fn of(header: &Header<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let xattrs = header.entry.xattrs.iter();
        Self {
            kind: kind(header.kind),
            name: text(&header.name),
            size: header.size,
            mtime: rfc3339(header.mtime),
            link_name: text(header.link),
            mode: header.entry.mode.into(),
            uid: header.entry.uid.into(),
            gid: header.entry.gid.into(),
            dev_major: header.device.0.into(),
            dev_minor: header.device.1.into(),
            xattrs: xattrs
                .map(|(name, value)| (text(name), STANDARD.encode(value)))
                .collect(),
            ..Self::default()
        }
    }
}

fn kind(flag: u8) -> &'static str {
    match flag {
        b'1' => "hardlink",
        b'2' => "symlink",
        b'3' => "char",
        b'4' => "block",
        b'5' => "dir",
        b'6' => "fifo",
        _ => "reg",
    }
}

fn rfc3339(time: Timestamp) -> String {
    use time::format_description::well_known::Rfc3339;
    let whole = time::OffsetDateTime::from_unix_timestamp(time.seconds);
    let exact = whole.map(|whole| whole + time::Duration::nanoseconds(time.nanos.into()));
    exact
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// What is known of an entry once the tar is written: its content, if it is a file that has one.
pub(crate) type Item = (TocEntry, Option<Content>);

/// The table's JSON. `with_ends` adds where compressed content ends, as zstd:chunked has it.
pub(crate) fn json(
    items: Vec<Item>,
    spans: &[Span],
    with_ends: bool,
) -> serde_json::Result<Vec<u8>> {
    let mut entries = Vec::with_capacity(items.len());
    for (mut entry, content) in items {
        let Some(content) = content else {
            entries.push(entry);
            continue;
        };
        entry.digest = Some(content.digest.to_string());
        let name = entry.name.clone();
        let last = content
            .chunks
            .last()
            .map_or(0, |chunk| spans[chunk.block].end);
        for (number, chunk) in content.chunks.iter().enumerate() {
            let mut one = match number {
                0 => std::mem::take(&mut entry),
                _ => TocEntry {
                    kind: "chunk",
                    name: name.clone(),
                    ..TocEntry::default()
                },
            };
            one.offset = spans[chunk.block].start;
            if with_ends {
                one.end_offset = if number == 0 {
                    last
                } else {
                    spans[chunk.block].end
                };
            }
            one.chunk_offset = chunk.offset;
            // Of a file in one piece the piece is the file.
            one.chunk_size = if content.chunks.len() > 1 {
                chunk.size
            } else {
                0
            };
            one.chunk_digest = Some(chunk.digest.to_string());
            entries.push(one);
        }
    }
    serde_json::to_vec(&serde_json::json!({ "version": 1, "entries": entries }))
}
