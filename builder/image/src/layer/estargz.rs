//! eStargz (<https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md>): a tar whose
//! files are gzip members of their own; then, as the tar's last file and a member too, the table of
//! contents `stargz.index.json`; then an empty member of 51 bytes whose header says where that is.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kiln_graph::{BlobDigest, Entry, ImagePath, Timestamp};

use super::compress::{Span, gzip_member};
use super::encode::{Counting, Encoded, Parts, TAR_END};
use super::header::{BLOCK, Header};
use super::seekable::Written;
use super::toc;

/// The table's digest, by which a runtime trusts it.
const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The tar's length, which a runtime that fetches lazily can't count.
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";
const TOC_NAME: &[u8] = b"stargz.index.json";
/// Says that no file is worth to be fetched before it is asked for; its content is fixed.
const LANDMARK: &[u8] = b".no.prefetch.landmark";
const LANDMARK_CONTENT: [u8; 1] = [0xf];
const LEVEL: u32 = 9;

/// A file that the format adds.
fn added(name: &[u8]) -> Entry {
    Entry {
        mode: 0o644,
        ..Entry::directory(ImagePath::new(name))
    }
}

fn header(entry: &Entry, size: u64) -> Header<'_> {
    Header {
        name: entry.path.relative_bytes().to_vec(),
        kind: b'0',
        link: b"",
        size,
        device: (0, 0),
        entry,
        mtime: Timestamp::default(),
    }
}

/// What follows content, up to the next block.
fn padding(size: usize) -> Vec<u8> {
    vec![0; size.next_multiple_of(BLOCK) - size]
}

/// Writes the landmark, which stands before all files.
pub(crate) fn write_landmark(out: &mut dyn Parts) -> io::Result<()> {
    let entry = added(LANDMARK);
    let header = header(&entry, LANDMARK_CONTENT.len() as u64);
    out.header(&header)?;
    out.write_all(&header.encode())?;
    out.content_begins()?;
    out.write_all(&LANDMARK_CONTENT)?;
    out.content_ends()?;
    out.write_all(&padding(LANDMARK_CONTENT.len()))
}

/// Writes the table of contents and the footer.
pub(crate) fn finish(
    mut blob: Counting<impl Write>,
    written: Written,
    spans: &[Span],
) -> io::Result<Encoded> {
    let table = toc::json(written.items, spans, false)?;
    let entry = added(TOC_NAME);
    let mut last = header(&entry, table.len() as u64).encode();
    last.extend_from_slice(&table);
    last.extend(padding(table.len()));
    last.extend(TAR_END);
    let mut plain = written.plain;
    plain.write_all(&last)?;
    let offset = blob.size;
    blob.write_all(&gzip_member(&last, LEVEL))?;
    blob.write_all(&footer(offset))?;
    blob.flush()?;
    let digest = BlobDigest::of(&table);
    let (diff_id, length) = plain.finish();
    let (blob, size) = blob.finish();
    let annotations = [
        (TOC_DIGEST, digest.to_string()),
        (UNCOMPRESSED_SIZE, length.to_string()),
    ];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
    Ok(Encoded {
        blob,
        size,
        diff_id,
        annotations: BTreeMap::from(annotations),
    })
}

/// An empty gzip member with an extra field (RFC 1952) that has the table's offset.
fn footer(offset: u64) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    let field = format!("{offset:016x}STARGZ");
    out.extend([26, 0, b'S', b'G', 22, 0]);
    out.extend_from_slice(field.as_bytes());
    // One stored block of no bytes, the last; then checksum and length of nothing.
    out.extend([1, 0, 0, 0xff, 0xff]);
    out.extend([0; 8]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_footer_is_an_empty_member_of_51_bytes() {
        let footer = footer(0x1234);
        assert_eq!(footer.len(), 51);
        assert!(
            footer
                .windows(22)
                .any(|part| part == b"0000000000001234STARGZ")
        );
        let mut plain = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&footer[..]);
        assert_eq!(reader.read_to_end(&mut plain).unwrap(), 0);
    }
}
