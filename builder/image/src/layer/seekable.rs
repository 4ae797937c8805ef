//! Layers out of which single files can be fetched: every file is compressed by itself, and a table
//! of contents says where. What differs between the formats is in `estargz` and `zstd_chunked`.

use std::io::{self, Write};

use crc::{CRC_64_GO_ISO, Crc};
use kiln_graph::{BlobDigest, Entry};
use sha2::{Digest as _, Sha256};

use super::compress::{Compressor, compress};
use super::encode::{Counting, Parts, write_parts};
use super::header::Header;
use super::tar_split::TarSplit;
use super::toc::{Chunk, Content, Item, TocEntry};
use super::{Codec, ContentSource, EncodeOptions, Encoded, estargz, zstd_chunked};

/// The most of a file that is one piece, in bytes; the compressor cuts at the same length.
const CHUNK: u64 = 4 << 20;
/// The CRC that tar-split has.
static CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_GO_ISO);

/// Writes a layer.
///
/// # Errors
/// As [`super::encode`].
pub(crate) fn encode(
    entries: &[Entry],
    source: &dyn ContentSource,
    codec: Codec,
    out: impl Write + Send,
    options: &EncodeOptions,
) -> io::Result<Encoded> {
    let mut blob = Counting::new(out);
    let split = match codec {
        Codec::ZstdChunked(level) => Some(TarSplit::new(level)?),
        _ => None,
    };
    let (written, spans) = compress(codec, &mut blob, |stream| {
        let mut recorder = Recorder::new(stream, split);
        if let Codec::EStargz(_) = codec {
            estargz::write_landmark(&mut recorder)?;
        }
        write_parts(entries, source, &mut recorder, options)?;
        recorder.close()?;
        if let Codec::ZstdChunked(_) = codec {
            recorder.write_all(&super::encode::TAR_END)?;
        }
        Ok(recorder.finish())
    })?;
    match codec {
        Codec::ZstdChunked(level) => zstd_chunked::finish(blob, written, &spans, level),
        _ => estargz::finish(blob, written, &spans),
    }
}

/// A tar that is written but for what the format adds.
pub(crate) struct Written {
    pub(crate) items: Vec<Item>,
    pub(crate) split: Option<TarSplit>,
    /// The tar so far, for its digest.
    pub(crate) plain: Counting<io::Sink>,
}

/// Passes a tar on to the compressor, and notes what is where.
pub(crate) struct Recorder<'a> {
    stream: &'a mut Compressor,
    plain: Counting<io::Sink>,
    items: Vec<Item>,
    split: Option<TarSplit>,
    /// The header that was written last, until it is known whether content follows.
    open: bool,
    inside: Option<Inside>,
}

/// A file whose content is being written.
struct Inside {
    whole: Sha256,
    crc: crc::Digest<'static, u64>,
    piece: Sha256,
    /// How much of the file, and of its piece, is written.
    offset: u64,
    in_piece: u64,
    chunks: Vec<Chunk>,
}

impl<'a> Recorder<'a> {
    fn new(stream: &'a mut Compressor, split: Option<TarSplit>) -> Self {
        Self {
            stream,
            plain: Counting::new(io::sink()),
            items: Vec::new(),
            split,
            open: false,
            inside: None,
        }
    }

    /// Tells tar-split of an entry that has no content.
    fn close(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        match (&mut self.split, self.items.last()) {
            (Some(split), Some((entry, _))) => split.file(&entry.name, None),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Written {
        self.stream.cut();
        Written {
            items: self.items,
            split: self.split,
            plain: self.plain,
        }
    }
}

impl Inside {
    fn new() -> Self {
        Self {
            whole: Sha256::new(),
            crc: CRC64.digest(),
            piece: Sha256::new(),
            offset: 0,
            in_piece: 0,
            chunks: Vec::new(),
        }
    }

    /// As much as still belongs to the piece is written; whether the piece is whole.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let room = usize::try_from(CHUNK - self.in_piece).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        self.whole.update(bytes);
        self.piece.update(bytes);
        self.crc.update(bytes);
        self.in_piece += bytes.len() as u64;
        bytes.len()
    }

    fn end_piece(&mut self, block: usize) {
        let digest = std::mem::take(&mut self.piece).finalize();
        self.chunks.push(Chunk {
            block,
            offset: self.offset,
            size: self.in_piece,
            digest: BlobDigest::from_sha256(digest.into()),
        });
        self.offset += self.in_piece;
        self.in_piece = 0;
    }
}

impl Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(inside) = &mut self.inside else {
            if let Some(split) = &mut self.split {
                split.bytes(bytes);
            }
            self.plain.write_all(bytes)?;
            self.stream.write_all(bytes)?;
            return Ok(bytes.len());
        };
        let count = inside.take(bytes);
        self.plain.write_all(&bytes[..count])?;
        self.stream.write_all(&bytes[..count])?;
        if inside.in_piece == CHUNK {
            inside.end_piece(self.stream.cut() - 1);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Parts for Recorder<'_> {
    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.close()?;
        self.items.push((TocEntry::of(header), None));
        self.open = true;
        Ok(())
    }

    fn content_begins(&mut self) -> io::Result<()> {
        self.stream.cut();
        self.inside = Some(Inside::new());
        self.open = false;
        Ok(())
    }

    fn content_ends(&mut self) -> io::Result<()> {
        let Some(mut inside) = self.inside.take() else {
            return Ok(());
        };
        if inside.in_piece > 0 {
            inside.end_piece(self.stream.cut() - 1);
        }
        let Some((entry, content)) = self.items.last_mut() else {
            return Ok(());
        };
        if let Some(split) = &mut self.split {
            split.file(&entry.name, Some((inside.offset, inside.crc.finalize())))?;
        }
        *content = Some(Content {
            digest: BlobDigest::from_sha256(inside.whole.finalize().into()),
            chunks: inside.chunks,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{decompressed, encode as encode_layer};
    use kiln_graph::{ImagePath, Manifest, Node};
    use std::fs::File;
    use std::io::Read as _;
    use std::path::Path;

    /// A tree with an empty file, small ones, one of several pieces, a directory and a link.
    fn tree(directory: &Path) -> Manifest {
        let mut entries = vec![
            Entry::directory(ImagePath::new("d")),
            Entry {
                node: Node::Symlink {
                    target: b"big".to_vec(),
                },
                ..Entry::directory(ImagePath::new("link"))
            },
        ];
        let big: Vec<u8> = (0..10_000_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        let files: [(&str, &[u8]); 4] = [
            ("big", &big),
            ("d/a", b"a"),
            ("empty", b""),
            ("z", &[7; 512]),
        ];
        for (name, content) in files {
            std::fs::create_dir_all(directory.join(name).parent().unwrap()).unwrap();
            std::fs::write(directory.join(name), content).unwrap();
            let node = Node::File {
                size: content.len() as u64,
                digest: kiln_graph::Digest::of(content),
            };
            let mut entry = Entry::directory(ImagePath::new(name));
            entry.xattrs.insert(b"user.x".to_vec(), b"1".to_vec());
            entries.push(Entry { node, ..entry });
        }
        Manifest::new(entries)
    }

    fn encoded(codec: Codec) -> (Vec<u8>, Encoded) {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path());
        let open = |entry: &Entry| File::open(entry.path.under(directory.path()));
        let mut out = Vec::new();
        let encoded = encode_layer(
            tree.entries(),
            &open,
            codec,
            &mut out,
            &EncodeOptions::default(),
        );
        (out, encoded.unwrap())
    }

    fn plain(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        decompressed(bytes)
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap();
        plain
    }

    fn digest(bytes: &[u8]) -> String {
        BlobDigest::of(bytes).to_string()
    }

    #[test]
    fn who_knows_nothing_of_it_reads_a_tar() {
        for codec in [Codec::EStargz(6), Codec::ZstdChunked(3)] {
            let (bytes, layer) = encoded(codec);
            assert_eq!(layer.size, bytes.len() as u64);
            assert_eq!(layer.blob.to_string(), digest(&bytes));
            assert_eq!(layer.diff_id.to_string(), digest(&plain(&bytes)));
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(3)
                .build()
                .unwrap();
            assert!(pool.install(|| encoded(codec)).0 == bytes);
        }
    }

    #[test]
    fn an_independent_reader_puts_zstd_chunked_together_from_its_files() {
        let (bytes, encoded) = encoded(Codec::ZstdChunked(3));
        let by_footer = ::zstd_chunked::MetadataReferences::from_footer(&bytes).unwrap();
        let found =
            ::zstd_chunked::MetadataReferences::from_oci(|key| encoded.annotations.get(key));
        let found = found.unwrap();
        assert_eq!(found.manifest.range, by_footer.manifest.range);
        assert_eq!(found.tarsplit.range, by_footer.tarsplit.range);
        let part = |range: &std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        let (table, split) = (part(&found.manifest.range), part(&found.tarsplit.range));
        assert_eq!(found.manifest.digest.unwrap(), digest(table));
        assert_eq!(found.tarsplit.digest.unwrap(), digest(split));
        let stream = ::zstd_chunked::Stream::new_from_frames(table, split).unwrap();
        let mut tar = Vec::new();
        let fetch = |content: &::zstd_chunked::ContentReference| {
            let content_bytes = plain(part(&content.range));
            assert_eq!(content.digest, digest(&content_bytes));
            Ok(content_bytes)
        };
        stream.write_to(&mut tar, fetch).unwrap();
        assert_eq!(stream.references().count(), 3);
        assert!(tar == plain(&bytes));
    }

    #[test]
    fn estargz_says_where_each_piece_is() {
        let (bytes, encoded) = encoded(Codec::EStargz(6));
        let footer = std::str::from_utf8(&bytes[bytes.len() - 35..bytes.len() - 19]).unwrap();
        let at = usize::from_str_radix(footer, 16).unwrap();
        let mut last = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[at..]));
        let mut table = String::new();
        let mut entry = last.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("stargz.index.json"));
        entry.read_to_string(&mut table).unwrap();
        let annotation = &encoded.annotations["containerd.io/snapshot/stargz/toc.digest"];
        assert_eq!(*annotation, digest(table.as_bytes()));
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        let entries = table["entries"].as_array().unwrap();
        let names: Vec<&str> = entries
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                ".no.prefetch.landmark",
                "big",
                "big",
                "big",
                "d/",
                "d/a",
                "empty",
                "link",
                "z"
            ]
        );
        let mut pieces = 0;
        for entry in entries
            .iter()
            .filter(|entry| entry["chunkDigest"].is_string())
        {
            let at = entry["offset"].as_u64().unwrap() as usize;
            let mut piece = Vec::new();
            flate2::read::GzDecoder::new(&bytes[at..])
                .read_to_end(&mut piece)
                .unwrap();
            assert_eq!(entry["chunkDigest"], digest(&piece), "{entry}");
            pieces += 1;
        }
        assert_eq!(pieces, 1 + 3 + 2);
    }
}
