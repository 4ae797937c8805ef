//! Rebuilds the tar of a layer from a difference and the files of the old image.
//!
//! A difference comes from strangers: each number in it is held against what it may be before
//! anything is read, made or written for it.

use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write};

use crate::DeltaError;
use crate::format::{
    MAGIC_1, MAGIC_2, MAX_ADD, MAX_PATH, MAX_WINDOW_LOG, Op, add_to_varint, max_prefixes,
};
use crate::old::{OldFile, OldFiles};

/// The window of the stream of operations, as a power of two: what zstd gives without being asked.
const STREAM_WINDOW_LOG: u32 = 27;
/// Files that are opened besides two for each block of the tar; operations besides one for each byte.
const SPARE: u64 = 4096;
/// A tar's block, in bytes.
const BLOCK: u64 = 512;
const CHUNK: usize = 64 << 10;

/// What a difference may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar.
    pub tar: u64,
}

/// Applies a difference: the tar is written to `out`, whose bytes are the caller's to check against
/// a digest before anybody sees them. Returns how many they are.
///
/// # Errors
/// When it is no difference, asks for what the old image doesn't have or gives more than it may, or
/// when something can't be read or written.
pub fn apply(
    delta: impl Read,
    files: &dyn OldFiles,
    out: &mut dyn Write,
    limits: Limits,
) -> Result<u64, DeltaError> {
    let mut delta = BufReader::new(delta);
    let mut magic = [0; 8];
    delta
        .read_exact(&mut magic)
        .map_err(|_| DeltaError::NotDelta)?;
    let has_frames = match magic {
        MAGIC_1 => false,
        MAGIC_2 => true,
        _ => return Err(DeltaError::NotDelta),
    };
    let mut stream = zstd::stream::read::Decoder::with_buffer(delta)?;
    stream.window_log_max(STREAM_WINDOW_LOG)?;
    let mut applier = Applier {
        stream: BufReader::with_capacity(CHUNK, stream),
        has_frames,
        files,
        open: None,
        out,
        written: 0,
        work: Work {
            ops: limits.tar.saturating_add(SPARE),
            opens: (limits.tar / BLOCK * 2).saturating_add(SPARE),
            prefixes: max_prefixes(limits.tar),
        },
        limits,
    };
    while applier.one()? {}
    Ok(applier.written)
}

/// The open file, its path, and where it is read.
struct Open {
    path: String,
    file: OldFile,
    position: u64,
}

/// What may still be done: a few bytes of a stream can ask for a lot that gives nothing.
struct Work {
    ops: u64,
    opens: u64,
    /// Bytes of prefixes that are read.
    prefixes: u64,
}

/// Takes from what may still be done.
fn spend(left: &mut u64, amount: u64) -> Result<(), DeltaError> {
    *left = left.checked_sub(amount).ok_or(DeltaError::TooMuchWork)?;
    Ok(())
}

struct Applier<'a, R: Read> {
    stream: BufReader<R>,
    has_frames: bool,
    files: &'a dyn OldFiles,
    open: Option<Open>,
    out: &'a mut dyn Write,
    written: u64,
    work: Work,
    limits: Limits,
}

impl<R: Read> Applier<'_, R> {
    /// Carries out one operation; `false` at the end.
    fn one(&mut self) -> Result<bool, DeltaError> {
        let next = self.stream.fill_buf().map_err(DeltaError::of_stream)?;
        let Some(byte) = next.first().copied() else {
            return Ok(false);
        };
        self.stream.consume(1);
        spend(&mut self.work.ops, 1)?;
        let number = self.varint()?;
        match Op::of(byte) {
            Some(Op::Data) => self.data(number)?,
            Some(Op::Open) => self.open(number)?,
            Some(Op::Copy) => self.copy(number)?,
            Some(Op::Add) => self.add(number)?,
            Some(Op::Seek) => self.seek(number)?,
            Some(Op::Frame) if self.has_frames => self.frame(number)?,
            _ => return Err(DeltaError::UnknownOp(byte)),
        }
        Ok(true)
    }

    fn varint(&mut self) -> Result<u64, DeltaError> {
        let mut number = 0;
        for at in 0.. {
            let mut byte = [0];
            self.read(&mut byte)?;
            let (sum, last) = add_to_varint(number, at, byte[0]).ok_or(DeltaError::Overflow)?;
            number = sum;
            if last {
                break;
            }
        }
        Ok(number)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), DeltaError> {
        self.stream
            .read_exact(buffer)
            .map_err(DeltaError::of_stream)
    }

    /// So many bytes of the stream, in memory.
    fn bytes(&mut self, size: u64) -> Result<Vec<u8>, DeltaError> {
        let mut bytes = Vec::new();
        let read = self.stream.by_ref().take(size).read_to_end(&mut bytes);
        read.map_err(DeltaError::of_stream)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(DeltaError::Truncated),
        }
    }

    /// Counts bytes that are about to be written.
    fn allow(&mut self, size: u64) -> Result<(), DeltaError> {
        let limit = self.limits.tar;
        let sum = self.written.checked_add(size).filter(|sum| *sum <= limit);
        self.written = sum.ok_or(DeltaError::TooLarge { limit })?;
        Ok(())
    }

    fn data(&mut self, size: u64) -> Result<(), DeltaError> {
        self.allow(size)?;
        let mut left = size;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            self.read(&mut buffer[..count])?;
            self.out.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn open(&mut self, size: u64) -> Result<(), DeltaError> {
        if size > MAX_PATH {
            return Err(DeltaError::LongPath);
        }
        spend(&mut self.work.opens, 1)?;
        let path = String::from_utf8(self.bytes(size)?).map_err(|_| DeltaError::PathText)?;
        self.open = None;
        let Some(file) = self.files.open(&path)? else {
            return Err(DeltaError::NoFile { path });
        };
        let position = 0;
        self.open = Some(Open {
            path,
            file,
            position,
        });
        Ok(())
    }

    /// The open file, when it has `size` more bytes; they count as read.
    fn advance(&mut self, size: u64) -> Result<&mut Open, DeltaError> {
        let open = self.open.as_mut().ok_or(DeltaError::NothingOpen)?;
        let end = open.position.checked_add(size);
        match end.filter(|end| *end <= open.file.size) {
            Some(end) => open.position = end,
            None => {
                let path = open.path.clone();
                return Err(DeltaError::PastEnd { path });
            }
        }
        Ok(open)
    }

    fn copy(&mut self, size: u64) -> Result<(), DeltaError> {
        _ = self.advance(size)?;
        self.allow(size)?;
        let open = self.open.as_mut().ok_or(DeltaError::NothingOpen)?;
        let copied = io::copy(&mut (&mut open.file.content).take(size), self.out)?;
        match copied == size {
            true => Ok(()),
            false => Err(DeltaError::PastEnd {
                path: open.path.clone(),
            }),
        }
    }

    fn add(&mut self, size: u64) -> Result<(), DeltaError> {
        if size > MAX_ADD {
            return Err(DeltaError::LongAdd);
        }
        _ = self.advance(size)?;
        self.allow(size)?;
        let mut sum = self.bytes(size)?;
        let open = self.open.as_mut().ok_or(DeltaError::NothingOpen)?;
        let mut old = vec![0; sum.len()];
        open.file.content.read_exact(&mut old)?;
        for (sum, old) in sum.iter_mut().zip(old) {
            *sum = sum.wrapping_add(old);
        }
        self.out.write_all(&sum)?;
        Ok(())
    }

    fn seek(&mut self, position: u64) -> Result<(), DeltaError> {
        let open = self.open.as_mut().ok_or(DeltaError::NothingOpen)?;
        if position > open.file.size {
            let path = open.path.clone();
            return Err(DeltaError::PastEnd { path });
        }
        open.file.content.seek(SeekFrom::Start(position))?;
        open.position = position;
        Ok(())
    }

    fn frame(&mut self, size: u64) -> Result<(), DeltaError> {
        let open = self.open.as_mut().ok_or(DeltaError::NothingOpen)?;
        if open.file.size > 1 << MAX_WINDOW_LOG {
            let path = open.path.clone();
            return Err(DeltaError::LargePrefix { path });
        }
        spend(&mut self.work.prefixes, open.file.size)?;
        let prefix = open.file.read_all()?;
        open.position = open.file.size;
        let mut frame = self.stream.by_ref().take(size);
        let mut given = Bounded {
            out: &mut *self.out,
            written: self.written,
            limit: self.limits.tar,
        };
        let decoded = decode(&mut frame, &prefix, &mut given);
        let (written, limit) = (given.written, given.limit);
        match decoded {
            Err(_) if written > limit => return Err(DeltaError::TooLarge { limit }),
            other => other.map_err(DeltaError::of_stream)?,
        }
        self.written = written;
        // Readers skip what follows the frame.
        io::copy(&mut frame, &mut io::sink()).map_err(DeltaError::of_stream)?;
        match frame.limit() {
            0 => Ok(()),
            _ => Err(DeltaError::Truncated),
        }
    }
}

/// Writes what one frame holds.
fn decode(frame: &mut impl Read, prefix: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut frame = BufReader::with_capacity(CHUNK, frame);
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(&mut frame, prefix)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let mut decoder = decoder.single_frame();
    io::copy(&mut decoder, out).map(drop)
}

/// A writer that takes no more than a number of bytes.
struct Bounded<'a> {
    out: &'a mut dyn Write,
    written: u64,
    limit: u64,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sum = self.written.saturating_add(bytes.len() as u64);
        if sum > self.limit {
            self.written = sum;
            return Err(io::Error::other("it is larger than it may be"));
        }
        self.out.write_all(bytes)?;
        self.written = sum;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
