//! Splits a tar into the contents of its regular files and all that is between them.
//!
//! The parts in their order are the stream, byte for byte, whatever it holds: what can't be
//! understood is passed on as "between".

use std::io::{self, Read};

const BLOCK: usize = 512;
/// PAX records and long names of more bytes are passed on without being read.
const MAX_EXTENSION: u64 = 1 << 20;
const CHUNK: usize = 64 << 10;

/// Is given the parts of a tar.
pub(crate) trait Parts {
    /// Headers, padding, all that is no content.
    fn between(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The content of a regular file, `size` bytes; all of it is to be read.
    fn content(&mut self, path: &[u8], size: u64, content: &mut dyn Read) -> io::Result<()>;
}

/// What extension headers said of the next entry.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Gives all parts of a tar, in order.
pub(crate) fn split(mut tar: impl Read, parts: &mut dyn Parts) -> io::Result<()> {
    let mut said = Said::default();
    loop {
        let mut block = [0; BLOCK];
        let count = fill(&mut tar, &mut block)?;
        parts.between(&block[..count])?;
        if count < BLOCK {
            return Ok(());
        }
        if !one_entry(&block, &mut tar, &mut said, parts)? {
            return rest(&mut tar, u64::MAX, parts).map(drop);
        }
    }
}

/// Passes on one entry behind its header; `false` when what follows can't be told.
fn one_entry(
    block: &[u8; BLOCK],
    tar: &mut impl Read,
    said: &mut Said,
    parts: &mut dyn Parts,
) -> io::Result<bool> {
    let (true, Some(own)) = (has_checksum(block), number(&block[124..136])) else {
        return Ok(false);
    };
    let size = said.size.unwrap_or(own);
    let kind = block[156];
    match kind {
        b'x' | b'L' if own <= MAX_EXTENSION => {
            let mut bytes = Vec::new();
            tar.by_ref().take(own).read_to_end(&mut bytes)?;
            parts.between(&bytes)?;
            match kind {
                b'x' => read_records(&bytes, said),
                _ => said.path = Some(until_nul(&bytes).to_vec()),
            }
            padding(tar, own, parts)?;
        }
        b'0' | 0 | b'7' if size > 0 => {
            let path = said.path.take().unwrap_or_else(|| name(block));
            let mut content = tar.by_ref().take(size);
            parts.content(&path, size, &mut content)?;
            *said = Said::default();
            padding(tar, size, parts)?;
        }
        b'x' | b'L' | b'K' | b'g' => {
            rest(tar, own, parts)?;
            padding(tar, own, parts)?;
        }
        // Links, directories and devices have no content, whatever size they say.
        b'1'..=b'6' | b'0' | 0 | b'7' => *said = Said::default(),
        _ => return Ok(false),
    }
    Ok(true)
}

fn padding(tar: &mut impl Read, size: u64, parts: &mut dyn Parts) -> io::Result<()> {
    let block = BLOCK as u64;
    rest(tar, (block - size % block) % block, parts).map(drop)
}

/// Passes on as many bytes, or what there is.
fn rest(tar: &mut impl Read, size: u64, parts: &mut dyn Parts) -> io::Result<()> {
    let mut tar = tar.by_ref().take(size);
    let mut buffer = vec![0; CHUNK];
    loop {
        match fill(&mut tar, &mut buffer)? {
            0 => return Ok(()),
            count => parts.between(&buffer[..count])?,
        }
    }
}

/// Fills a buffer, or as much of it as there is.
pub(crate) fn fill(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn has_checksum(block: &[u8; BLOCK]) -> bool {
    let blank = |at: usize| (148..156).contains(&at);
    let sum = |(at, byte): (usize, &u8)| u64::from(if blank(at) { b' ' } else { *byte });
    let actual: u64 = block.iter().enumerate().map(sum).sum();
    number(&block[148..156]) == Some(actual)
}

/// A number in octal digits, or in binary when its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        let (high, low) = field.split_at(field.len() - 8);
        let is_small = high.iter().skip(1).all(|byte| *byte == 0);
        return is_small.then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name in a header, with ustar's prefix.
fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    match &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

/// Takes the path and the size from PAX records: `LENGTH KEY=VALUE\n`.
fn read_records(mut records: &[u8], said: &mut Said) {
    while let Some(space) = records.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&records[..space]).ok();
        let length: Option<usize> = length.and_then(|text| text.parse().ok());
        let Some(length) = length.filter(|length| (space + 2..=records.len()).contains(length))
        else {
            return;
        };
        let record = &records[space + 1..length - 1];
        if let Some(path) = record.strip_prefix(b"path=") {
            said.path = Some(path.to_vec());
        } else if let Some(size) = record.strip_prefix(b"size=") {
            let text = std::str::from_utf8(size).ok();
            said.size = text.and_then(|text| text.parse().ok()).or(said.size);
        }
        records = &records[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Seen {
        all: Vec<u8>,
        files: Vec<(String, u64)>,
    }

    impl Parts for Seen {
        fn between(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.all.extend(bytes);
            Ok(())
        }

        fn content(&mut self, path: &[u8], size: u64, content: &mut dyn Read) -> io::Result<()> {
            let path = String::from_utf8_lossy(path).into_owned();
            self.files.push((path, size));
            content.read_to_end(&mut self.all).map(drop)
        }
    }

    fn seen(tar: &[u8]) -> Seen {
        let mut seen = Seen::default();
        split(tar, &mut seen).unwrap();
        assert!(seen.all == tar);
        seen
    }

    fn long_name() -> String {
        format!("{}/file", "directory".repeat(30))
    }

    #[test]
    fn numbers() {
        let mut binary = [0; 12];
        (binary[0], binary[11]) = (0x80, 9);
        let cases: [(&[u8], Option<u64>); 6] = [
            (b"00000000017\0", Some(15)),
            (b"17 \0\0\0\0\0", Some(15)),
            (b"8\0\0\0\0\0\0\0", None),
            (&binary, Some(9)),
            (&[0x80; 12], None),
            (&[0x80, 0, 0, 0, 0, 0, 0, 1], Some(0x80 << 56 | 1)),
        ];
        for (field, want) in cases {
            assert_eq!(number(field), want, "{field:?}");
        }
    }

    #[test]
    fn files_are_found_with_their_names() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, size) in [("a", 0), ("b/c", 1), (&long_name(), 513), ("d", 512)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            let content = vec![7; usize::try_from(size).unwrap()];
            builder.append_data(&mut header, name, &*content).unwrap();
        }
        builder
            .append_pax_extensions([("path", b"pax/name".as_slice())])
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(3);
        header.set_cksum();
        builder.append(&header, b"abc".as_slice()).unwrap();
        let tar = builder.into_inner().unwrap();
        let want = [("b/c", 1), (&long_name(), 513), ("d", 512), ("pax/name", 3)];
        let found = seen(&tar).files;
        assert_eq!(found, want.map(|(name, size)| (name.to_owned(), size)));
        for cut in [0, 1, 511, 512, 513, 700, tar.len() - 1] {
            seen(&tar[..cut]);
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_passed_on(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            seen(&bytes);
        }
    }
}
