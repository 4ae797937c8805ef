//! Metadata from which a tar can be put together again from its files: the lines of JSON that
//! tar-split writes (<https://github.com/vbatts/tar-split>), compressed as they come. A line of type 2
//! has bytes of the tar, one of type 1 stands for a file's content, with its CRC-64 (ISO 3309).

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    payload: Option<String>,
    position: u64,
}

/// Takes the parts of a tar in their order.
pub(crate) struct TarSplit {
    out: zstd::stream::Encoder<'static, Vec<u8>>,
    /// Bytes of the tar since the last line.
    segment: Vec<u8>,
    position: u64,
    /// The length of the lines, uncompressed.
    size: u64,
}

impl TarSplit {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self {
            out: zstd::stream::Encoder::new(Vec::new(), level)?,
            segment: Vec::new(),
            position: 0,
            size: 0,
        })
    }

    /// Headers and padding.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.segment.extend_from_slice(bytes);
    }

    /// An entry whose header was the last; with the length and CRC of its content, if it has any.
    pub(crate) fn file(&mut self, name: &str, content: Option<(u64, u64)>) -> io::Result<()> {
        self.end_segment()?;
        self.line(&Line {
            kind: FILE,
            name,
            size: content.map(|(size, _)| size),
            payload: content.map(|(_, crc)| STANDARD.encode(crc.to_be_bytes())),
            position: self.position,
        })
    }

    fn end_segment(&mut self) -> io::Result<()> {
        if self.segment.is_empty() {
            return Ok(());
        }
        let payload = Some(STANDARD.encode(&self.segment));
        self.segment.clear();
        self.line(&Line {
            kind: SEGMENT,
            name: "",
            size: None,
            payload,
            position: self.position,
        })
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.position += 1;
        self.size += text.len() as u64;
        self.out.write_all(&text)
    }

    /// The lines, compressed, and their length uncompressed.
    pub(crate) fn finish(mut self) -> io::Result<(Vec<u8>, u64)> {
        self.end_segment()?;
        Ok((self.out.finish()?, self.size))
    }
}
