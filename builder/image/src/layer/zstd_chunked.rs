//! zstd:chunked, as containers/storage has it
//! (<https://docs.rs/crate/zstd-chunked/0.2.0/source/docs/format.md> describes it): a tar whose files
//! are zstd frames of their own; then three skippable frames (RFC 8878): the table of contents and the
//! tar-split metadata, both compressed, and a footer of 64 bytes that says where these are. The
//! layer's annotations say the same, with digests.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kiln_graph::BlobDigest;

use super::compress::Span;
use super::encode::{Counting, Encoded};
use super::seekable::Written;
use super::toc;

pub(super) const PREFIX: &str = "io.github.containers.zstd-chunked";
/// What the first two are called by readers older than containers/storage 1.50, and by the stargz
/// snapshotter.
const OLD_PREFIX: &str = "io.containers.zstd-chunked";
/// The first of the numbers that begin a skippable frame.
const SKIPPABLE: u32 = 0x184d_2a50;
/// The table's format: CRFS.
const TOC_TYPE: u64 = 1;
const FOOTER_END: &[u8; 8] = b"GNUlInUx";

/// A compressed document, and where it is.
struct Placed {
    offset: u64,
    packed: Vec<u8>,
    /// Its length, uncompressed.
    size: u64,
}

impl Placed {
    fn write(packed: Vec<u8>, size: u64, blob: &mut Counting<impl Write>) -> io::Result<Self> {
        let offset = skippable(blob, &packed)?;
        Ok(Self {
            offset,
            packed,
            size,
        })
    }

    fn digest(&self) -> String {
        BlobDigest::of(&self.packed).to_string()
    }

    fn numbers(&self) -> [u64; 3] {
        [self.offset, self.packed.len() as u64, self.size]
    }

    fn position(&self) -> String {
        let [offset, packed, size] = self.numbers();
        format!("{offset}:{packed}:{size}")
    }
}

/// Writes a skippable frame; where its content begins.
fn skippable(blob: &mut Counting<impl Write>, content: &[u8]) -> io::Result<u64> {
    let length = u32::try_from(content.len()).map_err(|_| {
        io::Error::other("the table of contents is too large for zstd:chunked: use more layers")
    })?;
    blob.write_all(&SKIPPABLE.to_le_bytes())?;
    blob.write_all(&length.to_le_bytes())?;
    let offset = blob.size;
    blob.write_all(content)?;
    Ok(offset)
}

/// Writes the metadata and the footer.
pub(crate) fn finish(
    mut blob: Counting<impl Write>,
    written: Written,
    spans: &[Span],
    level: i32,
) -> io::Result<Encoded> {
    let table = toc::json(written.items, spans, true)?;
    let packed = zstd::bulk::compress(&table, level)?;
    let table = Placed::write(packed, table.len() as u64, &mut blob)?;
    let (lines, size) = match written.split {
        Some(split) => split.finish()?,
        None => (Vec::new(), 0),
    };
    let split = Placed::write(lines, size, &mut blob)?;
    let mut footer = Vec::with_capacity(64);
    for number in table
        .numbers()
        .into_iter()
        .chain([TOC_TYPE])
        .chain(split.numbers())
    {
        footer.extend(number.to_le_bytes());
    }
    footer.extend(FOOTER_END);
    skippable(&mut blob, &footer)?;
    blob.flush()?;
    let (diff_id, _) = written.plain.finish();
    let (blob, size) = blob.finish();
    Ok(Encoded {
        blob,
        size,
        diff_id,
        annotations: annotations(&table, &split),
    })
}

fn annotations(table: &Placed, split: &Placed) -> BTreeMap<String, String> {
    let position = format!("{}:{TOC_TYPE}", table.position());
    let all = [
        (PREFIX, "manifest-checksum", table.digest()),
        (PREFIX, "manifest-position", position.clone()),
        (PREFIX, "tarsplit-checksum", split.digest()),
        (PREFIX, "tarsplit-position", split.position()),
        (OLD_PREFIX, "manifest-checksum", table.digest()),
        (OLD_PREFIX, "manifest-position", position),
    ];
    let all = all.into_iter();
    all.map(|(prefix, name, value)| (format!("{prefix}.{name}"), value))
        .collect()
}
