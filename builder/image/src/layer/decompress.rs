//! Decompresses a layer, whatever its media type claims, on a thread of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const CHUNK: usize = 256 * 1024;
const CHUNKS_AHEAD: usize = 8;
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BZIP2_MAGIC: [u8; 3] = *b"BZh";
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// What unpacking an xz stream may take, in KiB: eight times what `xz -9` asks for.
const MAX_XZ_MEMORY: u32 = 512 << 10;

/// The uncompressed bytes of gzip (any number of members), zstd (any number of frames), bzip2, xz
/// or plain data, told apart by their first bytes.
///
/// # Errors
/// When the first bytes can't be read.
pub fn decompressed<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(CHUNK, reader);
    let start = reader.fill_buf()?;
    if start.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
    } else if start.starts_with(&ZSTD_MAGIC) {
        Ok(Box::new(zstd::Decoder::with_buffer(reader)?))
    } else if start.starts_with(&BZIP2_MAGIC) {
        Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(reader)))
    } else if start.starts_with(&XZ_MAGIC) {
        Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(
            reader,
            true,
            MAX_XZ_MEMORY,
        )))
    } else {
        Ok(Box::new(reader))
    }
}

/// Whether a file begins as one of the compressed forms that [`decompressed`] reads.
///
/// # Errors
/// When it can't be read.
pub(crate) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut start = [0; XZ_MAGIC.len()];
    let read = file.read_at(&mut start, 0)?;
    let forms: [&[u8]; 4] = [&GZIP_MAGIC, &ZSTD_MAGIC, &BZIP2_MAGIC, &XZ_MAGIC];
    Ok(forms.iter().any(|magic| start[..read].starts_with(magic)))
}

/// Reads ahead of its user: what `pump` on another thread sends.
pub(crate) struct Ahead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    position: usize,
}

pub(crate) fn read_ahead() -> (SyncSender<io::Result<Vec<u8>>>, Ahead) {
    let (send, chunks) = sync_channel(CHUNKS_AHEAD);
    (
        send,
        Ahead {
            chunks,
            current: Vec::new(),
            position: 0,
        },
    )
}

/// Sends all of `reader` until it ends or nobody listens.
pub(crate) fn pump(mut reader: impl Read, send: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let sent = match reader.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                send.send(Ok(chunk))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                _ = send.send(Err(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            let Ok(chunk) = self.chunks.recv() else {
                return Ok(0);
            };
            self.current = chunk?;
            self.position = 0;
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hello` by `xz`, but with a header that asks for a dictionary of 4 GiB.
    const GREEDY: &str = "fd377a585a0000016922de360200210128000000e6a011b301000568656c6c6f0a00000020303a3600011a06c5eac8799042990d010000000001595a";

    #[test]
    fn memory_is_not_given_to_whoever_asks() {
        let bytes = hex::decode(GREEDY).unwrap();
        let mut plain = Vec::new();
        let error = decompressed(&*bytes)
            .and_then(|mut reader| reader.read_to_end(&mut plain))
            .unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }
}
