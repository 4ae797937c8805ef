//! Compresses a stream on all cores, with the same bytes whatever their number.
//!
//! The stream is cut into blocks of fixed size, each compressed by itself on rayon's pool and
//! written in order. gzip: one member whose deflate blocks end on byte boundaries; zstd: one frame
//! a block, which the format allows to follow each other. At most a few blocks are in memory.
//!
//! For codecs that are seekable every block is a whole member or frame, cut where the producer says,
//! and its place is told.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::Codec;

const GZIP_BLOCK: usize = 1 << 20;
const ZSTD_BLOCK: usize = 4 << 20;
/// The most of one file that is compressed as one piece, in bytes: what other writers of eStargz cut
/// by, and a fair size for a request.
const SEEKABLE_BLOCK: usize = 4 << 20;
const PLAIN_BLOCK: usize = 1 << 20;
/// gzip header without name or time (RFC 1952), "unknown" operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last, empty deflate block (RFC 1951).
const DEFLATE_END: [u8; 2] = [3, 0];
/// Blocks are judged compressible or not in pieces of this size.
const PIECE: usize = 128 << 10;

struct Block {
    bytes: Vec<u8>,
    crc: Option<Crc>,
}

/// Where the compressed bytes of a block are, in the order the blocks were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The writing end: give it bytes, then finish it.
pub(crate) struct Compressor {
    codec: Codec,
    block: Vec<u8>,
    queue: SyncSender<Receiver<Block>>,
    /// How many blocks were cut.
    cuts: usize,
}

/// Compresses what `produce` writes, into `out`; and says where each block is.
pub(crate) fn compress<T: Send>(
    codec: Codec,
    out: impl Write + Send,
    produce: impl FnOnce(&mut Compressor) -> io::Result<T>,
) -> io::Result<(T, Vec<Span>)> {
    let ahead = rayon::current_num_threads() * 2;
    let (queue, blocks) = sync_channel(ahead);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write_blocks(codec, &blocks, out));
        let mut compressor = Compressor {
            codec,
            block: Vec::new(),
            queue,
            cuts: 0,
        };
        let produced = produce(&mut compressor);
        if produced.is_ok() {
            compressor.cut();
        }
        drop(compressor);
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        let spans = written?;
        Ok((produced?, spans))
    })
}

fn write_blocks(
    codec: Codec,
    blocks: &Receiver<Receiver<Block>>,
    mut out: impl Write,
) -> io::Result<Vec<Span>> {
    let (mut spans, mut end) = (Vec::new(), 0);
    let gzip = matches!(codec, Codec::Gzip(_));
    let mut crc = Crc::new();
    if gzip {
        out.write_all(&GZIP_HEADER)?;
    }
    for block in blocks {
        let block = block
            .recv()
            .map_err(|_| io::Error::other("a compressor panicked"))?;
        out.write_all(&block.bytes)?;
        let start = end;
        end += block.bytes.len() as u64;
        if codec.is_seekable() {
            spans.push(Span { start, end });
        }
        if let Some(part) = block.crc {
            crc.combine(&part);
        }
    }
    if gzip {
        out.write_all(&DEFLATE_END)?;
        out.write_all(&crc.sum().to_le_bytes())?;
        out.write_all(&crc.amount().to_le_bytes())?;
    }
    out.flush()?;
    Ok(spans)
}

/// The length of a codec's blocks in bytes.
pub(crate) fn block_size(codec: Codec) -> usize {
    match codec {
        Codec::Gzip(_) => GZIP_BLOCK,
        Codec::Zstd(_) => ZSTD_BLOCK,
        Codec::EStargz(_) | Codec::ZstdChunked(_) => SEEKABLE_BLOCK,
        Codec::Uncompressed => PLAIN_BLOCK,
    }
}

/// What a blob begins with whose uncompressed bytes begin with these: its header and first block.
pub(crate) fn compress_first(codec: Codec, plain: &[u8]) -> Vec<u8> {
    let first = plain[..plain.len().min(block_size(codec))].to_vec();
    let mut out = match codec {
        Codec::Gzip(_) => GZIP_HEADER.to_vec(),
        _ => Vec::new(),
    };
    if !first.is_empty() {
        out.extend(compress_block(codec, first).bytes);
    }
    out
}

impl Compressor {
    /// Ends a block; how many there are now.
    pub(crate) fn cut(&mut self) -> usize {
        if self.block.is_empty() {
            return self.cuts;
        }
        self.cuts += 1;
        let plain = std::mem::take(&mut self.block);
        let (send, receive) = sync_channel(1);
        let codec = self.codec;
        rayon::spawn(move || _ = send.send(compress_block(codec, plain)));
        // When the writer has failed nobody takes the block; its error is the one reported.
        _ = self.queue.send(receive);
        self.cuts
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = block_size(self.codec);
        self.block.reserve(size - self.block.len());
        let count = bytes.len().min(size - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == size {
            self.cut();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress_block(codec: Codec, plain: Vec<u8>) -> Block {
    match codec {
        Codec::Gzip(level) => {
            let mut crc = Crc::new();
            crc.update(&plain);
            Block {
                bytes: deflate(&plain, level),
                crc: Some(crc),
            }
        }
        Codec::EStargz(level) => Block {
            bytes: gzip_member(&plain, level),
            crc: None,
        },
        Codec::Zstd(level) | Codec::ZstdChunked(level) => {
            let packed = zstd::bulk::compress(&plain, level);
            // Compressing into memory of the right size can't fail; an empty block would be
            // noticed by whoever checks the layer's digest.
            Block {
                bytes: packed.unwrap_or_default(),
                crc: None,
            }
        }
        Codec::Uncompressed => Block {
            bytes: plain,
            crc: None,
        },
    }
}

/// A whole gzip member (RFC 1952).
pub(crate) fn gzip_member(plain: &[u8], level: u32) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(plain);
    let mut out = GZIP_HEADER.to_vec();
    out.extend(deflate(plain, level));
    out.extend(DEFLATE_END);
    out.extend(crc.sum().to_le_bytes());
    out.extend(crc.amount().to_le_bytes());
    out
}

/// Deflates runs of like pieces: trying to compress noise costs most of the time and gains nothing.
fn deflate(plain: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 64);
    let pieces: Vec<(bool, &[u8])> = plain
        .chunks(PIECE)
        .map(|piece| (is_noise(piece), piece))
        .collect();
    for run in pieces.chunk_by(|a, b| a.0 == b.0) {
        let level = if run[0].0 { 0 } else { level };
        let bytes: Vec<u8> = run
            .iter()
            .flat_map(|(_, piece)| piece.iter().copied())
            .collect();
        deflate_run(&bytes, level, &mut out);
    }
    out
}

fn deflate_run(plain: &[u8], level: u32, out: &mut Vec<u8>) {
    let mut state = Compress::new(Compression::new(level), false);
    let mut packed = Vec::with_capacity(plain.len() + plain.len() / 8 + 1024);
    loop {
        let done = usize::try_from(state.total_in()).unwrap_or(plain.len());
        let result = state.compress_vec(&plain[done..], &mut packed, FlushCompress::Sync);
        let finished = usize::try_from(state.total_in()) == Ok(plain.len());
        if result.is_err() || (finished && packed.len() < packed.capacity()) {
            break;
        }
        packed.reserve(plain.len() / 8 + 1024);
    }
    out.extend_from_slice(&packed);
}

/// Whether bytes look random: their entropy, estimated from a histogram, is nearly 8 bits a byte.
fn is_noise(piece: &[u8]) -> bool {
    if piece.len() < PIECE {
        return false;
    }
    let mut counts = [0u32; 256];
    for byte in piece.iter().step_by(4) {
        counts[usize::from(*byte)] += 1;
    }
    let samples = PIECE.div_ceil(4) as u64;
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    // For independent uniform bytes the sum of squares is about n²/256 + n; text is far above.
    squares < samples * samples / 256 + 2 * samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::decompressed;
    use std::io::Read as _;

    fn sample(size: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut noise = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..size)
            .map(|at| {
                if at / 300_000 % 2 == 0 {
                    noise()
                } else {
                    b"text "[at % 5]
                }
            })
            .collect()
    }

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, &mut out, |stream| stream.write_all(plain)).unwrap();
        out
    }

    #[test]
    fn round_trips_with_the_same_bytes_on_any_number_of_threads() {
        for codec in [
            Codec::Gzip(6),
            Codec::Gzip(1),
            Codec::Zstd(3),
            Codec::Uncompressed,
        ] {
            for size in [0, 1, 1000, GZIP_BLOCK, 5_000_001] {
                let plain = sample(size);
                let bytes = packed(codec, &plain);
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(5)
                    .build()
                    .unwrap();
                assert_eq!(pool.install(|| packed(codec, &plain)), bytes);
                let mut again = Vec::new();
                decompressed(&bytes[..])
                    .unwrap()
                    .read_to_end(&mut again)
                    .unwrap();
                assert!(again == plain, "{codec} of {size} bytes");
            }
        }
    }

    #[test]
    fn noise_and_text_are_told_apart() {
        let noise = sample(PIECE);
        assert!(is_noise(&noise));
        let text: Vec<u8> = b"some text with words and words "
            .iter()
            .copied()
            .cycle()
            .take(PIECE)
            .collect();
        assert!(!is_noise(&text));
    }
}
