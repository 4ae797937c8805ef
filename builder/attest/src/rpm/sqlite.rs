//! The rows of a table in an SQLite file (<https://sqlite.org/fileformat2.html>): as much as is
//! needed to read a table whose rows end with a blob. What isn't as it should be reads as nothing.

/// SQLite takes no table with more columns.
const MAX_COLUMNS: usize = 32_767;
const LEAF: u8 = 0x0d;
const INTERIOR: u8 = 0x05;

/// The rows of a table that could be read.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The last column of each, where it is a blob.
    pub(super) last: Vec<Option<Vec<u8>>>,
    /// Whether all of the table could be read.
    pub(super) is_whole: bool,
}

/// The rows of a table; nothing when there is no such table.
pub(super) fn table(file: &[u8], table: &str) -> Option<Rows> {
    let database = Database::open(file)?;
    let (schema, _) = database.rows(1);
    let root = schema.iter().find_map(|row| {
        let columns = columns(row)?;
        let is_wanted = columns.first() == Some(&Value::Text(b"table"))
            && columns.get(1) == Some(&Value::Text(table.as_bytes()));
        match columns.get(3) {
            Some(Value::Integer(root)) if is_wanted => u32::try_from(*root).ok(),
            _ => None,
        }
    });
    let (rows, is_whole) = database.rows(root?);
    let last = rows.iter().map(|row| match columns(row)?.pop()? {
        Value::Blob(bytes) => Some(bytes.to_vec()),
        _ => None,
    });
    Some(Rows {
        last: last.collect(),
        is_whole,
    })
}

/// A way through the pages of a tree.
struct Walk {
    /// The pages that were found. Each belongs to one place of one tree: what leads to one again is damaged, or
    /// wants to be read for ever.
    visited: Vec<bool>,
    /// Those of the tree that are still to be read.
    open: Vec<u32>,
    /// The payloads of the rows that were read.
    rows: Vec<Vec<u8>>,
}

impl Walk {
    fn visit(&mut self, page: u32) -> Option<()> {
        let seen = self.visited.get_mut(page as usize)?;
        (!std::mem::replace(seen, true)).then_some(())
    }

    fn follow(&mut self, page: u32) -> Option<()> {
        self.visit(page)?;
        self.open.push(page);
        Some(())
    }
}

/// A column's value; kinds that no table here has are `Other`.
#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
    Other,
}

struct Database<'a> {
    file: &'a [u8],
    page_size: usize,
    /// The bytes of a page that SQLite itself uses.
    usable: usize,
}

impl<'a> Database<'a> {
    fn open(file: &'a [u8]) -> Option<Self> {
        let rest = file.strip_prefix(b"SQLite format 3\0")?;
        let page_size = match u16_at(rest, 0)? {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return None,
        };
        let usable = page_size.checked_sub(usize::from(*rest.get(4)?))?;
        (usable >= 480).then_some(Self {
            file,
            page_size,
            usable,
        })
    }

    fn page(&self, number: u32) -> Option<&'a [u8]> {
        let start = (number as usize)
            .checked_sub(1)?
            .checked_mul(self.page_size)?;
        self.file.get(start..start.checked_add(self.page_size)?)
    }

    /// The payloads of all rows of a table, by the page its tree begins at, and whether these are all.
    fn rows(&self, root: u32) -> (Vec<Vec<u8>>, bool) {
        let mut walk = Walk {
            visited: vec![false; self.file.len() / self.page_size + 1],
            open: Vec::new(),
            rows: Vec::new(),
        };
        let mut is_whole = walk.follow(root).is_some();
        let mut left = self.file.len();
        while let Some(number) = walk.open.pop() {
            let header = if number == 1 { 100 } else { 0 };
            let before = walk.rows.len();
            let page = self.page(number);
            let read = page.and_then(|page| self.read_page(page, header, &mut walk));
            is_whole &= read.is_some();
            // A row's bytes are in the file once.
            let bytes: usize = walk.rows.iter().skip(before).map(Vec::len).sum();
            let Some(rest) = left.checked_sub(bytes) else {
                return (walk.rows, false);
            };
            left = rest;
        }
        (walk.rows, is_whole)
    }

    fn read_page(&self, page: &[u8], header: usize, walk: &mut Walk) -> Option<()> {
        let kind = *page.get(header)?;
        let cells = usize::from(u16_at(page, header + 3)?);
        let start = match kind {
            LEAF => header + 8,
            INTERIOR => header + 12,
            _ => return None,
        };
        let mut bytes = 0;
        for cell in 0..cells {
            let at = usize::from(u16_at(page, start + 2 * cell)?);
            match kind {
                LEAF => {
                    let row = self.payload(page.get(at..)?, walk)?;
                    bytes += row.len();
                    walk.rows.push(row);
                }
                _ => walk.follow(u32_at(page, at)?)?,
            }
            if bytes > self.file.len() {
                return None;
            }
        }
        if kind == INTERIOR {
            walk.follow(u32_at(page, header + 8)?)?;
        }
        Some(())
    }

    /// A cell's payload with what overflows to other pages.
    fn payload(&self, cell: &[u8], walk: &mut Walk) -> Option<Vec<u8>> {
        let (size, after_size) = varint(cell)?;
        let (_, after_id) = varint(cell.get(after_size..)?)?;
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= self.file.len())?;
        let cell = cell.get(after_size + after_id..)?;
        let inline = self.inline(size);
        let mut payload = cell.get(..inline)?.to_vec();
        let mut next = match inline < size {
            true => u32_at(cell, inline)?,
            false => 0,
        };
        while payload.len() < size {
            walk.visit(next)?;
            let page = self.page(next)?;
            let take = (size - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(page.get(4..4 + take)?);
            next = u32_at(page, 0)?;
        }
        Some(payload)
    }

    /// How much of a payload is in the cell itself (section 1.6 of the format).
    fn inline(&self, size: usize) -> usize {
        let most = self.usable - 35;
        if size <= most {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (size - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

/// The columns of a row (section 2.1 of the format).
fn columns(row: &[u8]) -> Option<Vec<Value<'_>>> {
    let (header, mut at) = varint(row)?;
    let header = usize::try_from(header).ok()?;
    let mut body = row.get(header..)?;
    let mut columns = Vec::new();
    while at < header {
        let (kind, length) = varint(row.get(at..header)?)?;
        at += length;
        if columns.len() == MAX_COLUMNS {
            return None;
        }
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        let (bytes, rest) = body.split_at_checked(size)?;
        columns.push(match kind {
            1..=6 => Value::Integer(integer(bytes)),
            kind if kind >= 12 && kind % 2 == 0 => Value::Blob(bytes),
            kind if kind >= 13 => Value::Text(bytes),
            _ => Value::Other,
        });
        body = rest;
    }
    Some(columns)
}

/// A signed number, most significant byte first.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |all: i64, byte| (all << 8) | i64::from(*byte))
}

/// A number of variable length, and how many bytes it has.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    let last = bytes.get(8)?;
    Some(((value << 8) | u64::from(*last), 9))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(varint(&[0x07]), Some((7, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x81]), None);
        assert_eq!(
            (integer(&[0xff]), integer(&[0x01, 0x00]), integer(&[])),
            (-1, 256, 0)
        );
    }

    /// A page of a tree: its kind, and children or nothing.
    fn page(kind: u8, children: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let cells = u16::try_from(children.len()).unwrap();
        bytes[0] = kind;
        bytes[3..5].copy_from_slice(&cells.to_be_bytes());
        for (number, child) in children.iter().enumerate() {
            let at = 400 + 4 * number;
            let pointer = u16::try_from(at).unwrap().to_be_bytes();
            bytes[12 + 2 * number..14 + 2 * number].copy_from_slice(&pointer);
            bytes[at..at + 4].copy_from_slice(&child.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn circles_and_missing_pages_are_told() {
        let rows = |pages: &[Vec<u8>]| {
            let file = pages.concat();
            let database = Database {
                file: &file,
                page_size: 512,
                usable: 512,
            };
            database.rows(2).1
        };
        let leaf = page(LEAF, &[]);
        let first = leaf.clone();
        let mut parent = page(INTERIOR, &[3]);
        parent[8..12].copy_from_slice(&4_u32.to_be_bytes());
        assert!(rows(&[
            first.clone(),
            parent.clone(),
            leaf.clone(),
            leaf.clone()
        ]));
        // The last page is missing; is no page of a table; is one that was read before.
        assert!(!rows(&[first.clone(), parent.clone(), leaf.clone()]));
        assert!(!rows(&[
            first.clone(),
            parent.clone(),
            leaf.clone(),
            page(9, &[])
        ]));
        parent[8..12].copy_from_slice(&3_u32.to_be_bytes());
        assert!(!rows(&[first.clone(), parent, leaf.clone(), leaf]));
        let mut own = page(INTERIOR, &[2; 20]);
        own[8..12].copy_from_slice(&2_u32.to_be_bytes());
        assert!(!rows(&[first, own]));
    }

    #[test]
    fn rows_have_so_many_columns() {
        // A header of columns without content.
        let header = |columns: usize| {
            let length = columns + 3;
            let digits = [
                0x80 | (length >> 14) as u8,
                0x80 | (length >> 7 & 0x7f) as u8,
                (length & 0x7f) as u8,
            ];
            [&digits[..], &vec![8; columns]].concat()
        };
        assert_eq!(columns(&header(100)).map(|all| all.len()), Some(100));
        assert_eq!(columns(&header(40_000)), None);
    }

    proptest! {
        #[test]
        fn no_file_panics(mut bytes in prop::collection::vec(any::<u8>(), 600..4096), kind in 0..3) {
            bytes[..16].copy_from_slice(b"SQLite format 3\0");
            bytes[16..18].copy_from_slice(&512_u16.to_be_bytes());
            bytes[20] = 0;
            bytes[100] = [LEAF, INTERIOR, 0][kind as usize];
            _ = table(&bytes, "Packages");
        }
    }
}
