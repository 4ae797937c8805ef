//! Writes a tar-diff.

use std::io::{self, Write};

use zstd::stream::write::Encoder;

use crate::format::{MAGIC_2, Op, put_varint};

/// Data is collected up to this many bytes before it becomes an operation.
const MAX_DATA: usize = 1 << 20;

/// Writes operations, and knows which old file is open at which position.
pub(crate) struct Writer<W: Write> {
    stream: Encoder<'static, W>,
    data: Vec<u8>,
    open: Option<(String, u64)>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut out: W, level: i32) -> io::Result<Self> {
        out.write_all(&MAGIC_2)?;
        Ok(Self {
            stream: Encoder::new(out, level)?,
            data: Vec::new(),
            open: None,
        })
    }

    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(MAX_DATA - self.data.len());
            self.data.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.data.len() == MAX_DATA {
                self.end_data()?;
            }
        }
        Ok(())
    }

    /// Copies bytes of an old file.
    pub(crate) fn copy(&mut self, path: &str, position: u64, size: u64) -> io::Result<()> {
        self.open(path)?;
        self.seek(position)?;
        self.op(Op::Copy, size, &[])?;
        self.open = Some((path.to_owned(), position + size));
        Ok(())
    }

    /// Outputs what a frame holds that was made with an old file as prefix.
    pub(crate) fn frame(&mut self, path: &str, frame: &[u8]) -> io::Result<()> {
        self.open(path)?;
        self.op(Op::Frame, frame.len() as u64, frame)?;
        // Readers differ in where they are in the file afterwards.
        self.open = None;
        Ok(())
    }

    fn open(&mut self, path: &str) -> io::Result<()> {
        self.end_data()?;
        if self.open.as_ref().is_some_and(|(open, _)| open == path) {
            return Ok(());
        }
        self.op(Op::Open, path.len() as u64, path.as_bytes())?;
        self.open = Some((path.to_owned(), 0));
        Ok(())
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, at)| *at != position) {
            self.op(Op::Seek, position, &[])?;
        }
        Ok(())
    }

    fn end_data(&mut self) -> io::Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.data);
        self.op(Op::Data, data.len() as u64, &data)?;
        self.data = data;
        self.data.clear();
        Ok(())
    }

    fn op(&mut self, op: Op, number: u64, bytes: &[u8]) -> io::Result<()> {
        let mut head = vec![op as u8];
        put_varint(&mut head, number);
        self.stream.write_all(&head)?;
        self.stream.write_all(bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end_data()?;
        self.stream.finish()
    }
}
