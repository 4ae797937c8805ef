//! Files with holes as GNU tar writes them with `--format=posix --sparse` (GNU tar manual, "Storing Sparse
//! Files"): PAX records say where the data belongs (formats 0.0 and 0.1), or what the data begins with
//! (format 1.0).

use std::io::{self, BufRead, BufReader, Read};

/// A map of so many pieces of data is one.
const MAX_PIECES: usize = 1 << 20;
/// A file with holes is no longer than this, in bytes: a few records could claim any length, and all of it is
/// hashed.
const MAX_SIZE: u64 = 64 << 30;
const BLOCK: u64 = 512;

/// What the records of an entry say of a file with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    /// The file's name, where the header has another.
    pub(super) name: Option<Vec<u8>>,
    size: u64,
    /// Where data is; nothing when the data begins with that.
    pieces: Option<Vec<Piece>>,
}

/// Data between holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    length: u64,
}

impl Piece {
    /// Where it ends. That is a number once the map has been checked.
    fn end(&self) -> u64 {
        self.offset + self.length
    }
}

impl PaxSparse {
    /// Reads an entry's records; nothing when they are not about a file with holes.
    ///
    /// # Errors
    /// When they contradict themselves.
    pub(super) fn of(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Option<Self>> {
        if !entry.header().entry_type().is_file() {
            return Ok(None);
        }
        let Some(records) = entry.pax_extensions()? else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        for record in records {
            let record = record?;
            if let Ok(key) = record.key()
                && let Some(key) = key.strip_prefix("GNU.sparse.")
            {
                fields.push((key.to_owned(), record.value_bytes().to_vec()));
            }
        }
        Self::read(&fields)
    }

    fn read(fields: &[(String, Vec<u8>)]) -> io::Result<Option<Self>> {
        let mut found = Self::default();
        let (mut size, mut is_first, mut offset) = (None, false, None);
        let mut pieces = Vec::new();
        for (key, value) in fields {
            match key.as_str() {
                "major" => is_first = value == b"1",
                "name" => found.name = Some(value.clone()),
                "size" | "realsize" => size = Some(number(value)?),
                "offset" => offset = Some(number(value)?),
                "numbytes" => {
                    let offset = offset.take().ok_or_else(wrong)?;
                    let length = number(value)?;
                    pieces.push(Piece { offset, length });
                }
                "map" => pieces = map(value)?,
                _ => {}
            }
        }
        let Some(size) = size else { return Ok(None) };
        if size > MAX_SIZE {
            return Err(invalid("a file with holes is larger than 64 GiB"));
        }
        found.size = size;
        found.pieces = (!is_first).then_some(pieces);
        Ok(Some(found))
    }

    /// The file's content, holes included, out of an entry's data.
    ///
    /// # Errors
    /// When the map of holes can't be read, or isn't one.
    pub(super) fn content<R: Read>(self, data: R) -> io::Result<Content<R>> {
        let mut data = BufReader::new(data);
        let pieces = match self.pieces {
            Some(pieces) => pieces,
            None => map_in_data(&mut data)?,
        };
        let mut end = 0;
        for piece in &pieces {
            let behind = piece.offset.checked_add(piece.length);
            let behind = behind.filter(|behind| piece.offset >= end && *behind <= self.size);
            end = behind.ok_or_else(wrong)?;
        }
        Ok(Content {
            data,
            pieces: pieces.into_iter(),
            at: 0,
            size: self.size,
        })
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn wrong() -> io::Error {
    invalid("the map of a file with holes is broken")
}

fn number(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).ok();
    let number = text.and_then(|text| text.trim_end().parse().ok());
    number.ok_or_else(wrong)
}

/// `OFFSET,LENGTH,OFFSET,LENGTH…`
fn map(text: &[u8]) -> io::Result<Vec<Piece>> {
    let fields = text.split(|byte| *byte == b',');
    let numbers = fields.filter(|field| !field.is_empty()).map(number);
    let numbers: Vec<u64> = numbers
        .take(2 * MAX_PIECES + 1)
        .collect::<io::Result<_>>()?;
    in_pairs(&numbers)
}

fn in_pairs(numbers: &[u64]) -> io::Result<Vec<Piece>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * MAX_PIECES {
        return Err(wrong());
    }
    let pairs = numbers.chunks_exact(2).map(|pair| Piece {
        offset: pair[0],
        length: pair[1],
    });
    Ok(pairs.collect())
}

/// How many pieces there are, then the offset and the length of each, a line each, up to the end of a block.
fn map_in_data(data: &mut impl BufRead) -> io::Result<Vec<Piece>> {
    let mut read = 0;
    let mut line = || -> io::Result<u64> {
        let mut text = Vec::new();
        // No number is longer.
        let count = data.by_ref().take(24).read_until(b'\n', &mut text)?;
        read += count as u64;
        match text.pop() {
            Some(b'\n') => number(&text),
            _ => Err(wrong()),
        }
    };
    let count = usize::try_from(line()?).ok();
    let count = count
        .filter(|count| *count <= MAX_PIECES)
        .ok_or_else(wrong)?;
    let mut numbers = Vec::new();
    for _ in 0..2 * count {
        numbers.push(line()?);
    }
    let padding = read.next_multiple_of(BLOCK) - read;
    let skipped = io::copy(&mut data.by_ref().take(padding), &mut io::sink())?;
    match skipped == padding {
        true => in_pairs(&numbers),
        false => Err(wrong()),
    }
}

/// The content of a file with holes.
#[derive(Debug)]
pub(super) struct Content<R> {
    data: BufReader<R>,
    /// The first one is next, or is being read.
    pieces: std::vec::IntoIter<Piece>,
    at: u64,
    size: u64,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Pieces without data say how long the file is.
        let is_read = |piece: &Piece| self.at >= piece.end();
        while self.pieces.as_slice().first().is_some_and(is_read) {
            _ = self.pieces.next();
        }
        let (is_hole, end) = match self.pieces.as_slice().first() {
            Some(piece) if self.at < piece.offset => (true, piece.offset),
            Some(piece) => (false, piece.end()),
            None => (true, self.size),
        };
        let most = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let count = match is_hole {
            true => {
                buffer[..most].fill(0);
                most
            }
            false => self.data.read(&mut buffer[..most])?,
        };
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        let fields = list.iter();
        fields
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    fn content(list: &[(&str, &str)], data: &[u8]) -> io::Result<Vec<u8>> {
        let sparse = PaxSparse::read(&fields(list))?.unwrap();
        let mut out = Vec::new();
        sparse.content(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn all_three_formats_are_read() {
        let mut first = b"3\n0\n2\n5\n3\n10\n0\n".to_vec();
        first.resize(512, 0);
        first.extend_from_slice(b"abcde");
        let size = ("size", "10");
        for (list, data) in [
            (
                &[("major", "1"), ("minor", "0"), ("realsize", "10")][..],
                &first[..],
            ),
            (&[size, ("map", "0,2,5,3,10,0")], b"abcde"),
            (
                &[
                    size,
                    ("offset", "0"),
                    ("numbytes", "2"),
                    ("offset", "5"),
                    ("numbytes", "3"),
                ],
                b"abcde",
            ),
        ] {
            let found = content(list, data).unwrap();
            assert_eq!(found, b"ab\0\0\0cde\0\0", "{list:?}");
        }
        assert_eq!(content(&[("size", "3"), ("map", "")], b"").unwrap(), [0; 3]);
        assert_eq!(content(&[("size", "0")], b"").unwrap(), b"");
        assert_eq!(PaxSparse::read(&fields(&[("name", "a")])).unwrap(), None);
    }

    #[test]
    fn broken_maps_are_errors() {
        let size = ("size", "10");
        for (list, data) in [
            (&[size, ("map", "0,2,1,3")][..], &b"abcde"[..]),
            (&[size, ("map", "8,3")], b"abc"),
            (&[size, ("map", "0")], b"a"),
            (&[size, ("map", "0,x")], b"a"),
            (&[size, ("map", "18446744073709551615,2")], b"ab"),
            (&[size, ("map", "0,5")], b"abc"),
            (&[size, ("numbytes", "2")], b"ab"),
            (&[("size", "68719476737")], b""),
            (&[("major", "1"), ("realsize", "10")], b"1\n0\n2\nab"),
            (&[("major", "1"), ("realsize", "10")], b"99999999\n"),
            (
                &[("major", "1"), ("realsize", "10")],
                b"no number at all, and long",
            ),
        ] {
            assert!(content(list, data).is_err(), "{list:?}");
        }
    }
}
