//! Zip archives (APPNOTE.TXT 6.3.10): the list at the end, and members that are stored or
//! deflated. What is in front of an archive, such as a script that starts it, is skipped.

use std::io::{Read as _, SeekFrom};

use flate2::read::DeflateDecoder;

use super::ReadSeek;

/// The end record with the longest comment, in bytes.
const MAX_END: u64 = 22 + 65_535;
/// Lists of honest archives are smaller, in bytes.
const MAX_LIST: u64 = 128 << 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// A file in an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    method: u16,
    packed: u64,
    offset: u64,
}

/// An archive.
pub(super) struct Archive<'a> {
    file: &'a mut dyn ReadSeek,
    pub(super) members: Vec<Member>,
    /// How far its offsets are from the file's.
    base: u64,
}

/// Where the list is.
struct End {
    /// Where the record that says so is.
    at: u64,
    size: u64,
    offset: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(file: &'a mut dyn ReadSeek) -> Result<Self, String> {
        let end = find_end(file).ok_or("not a zip archive, or damaged")?;
        let damaged = "its list of files is damaged";
        let list_at = end.at.checked_sub(end.size).ok_or(damaged)?;
        let base = list_at.checked_sub(end.offset).ok_or(damaged)?;
        if end.size > MAX_LIST {
            return Err("its list of files is too long".to_owned());
        }
        let list = bytes_at(file, list_at, end.size).ok_or(damaged)?;
        let members = members(&list).ok_or(damaged)?;
        Ok(Self {
            file,
            members,
            base,
        })
    }

    /// A member's content, if it is no longer than `max` bytes; and what it cost to find out, in bytes that were
    /// read or unpacked, whichever are more.
    pub(super) fn read(&mut self, member: &Member, max: u64) -> (Result<Vec<u8>, String>, u64) {
        let Some(start) = self.start_of(member) else {
            return (Err(damaged(member)), 0);
        };
        let packed = (&mut *self.file).take(member.packed);
        let mut bytes = Vec::new();
        let read = match member.method {
            STORED => packed.take(max + 1).read_to_end(&mut bytes),
            DEFLATED => DeflateDecoder::new(packed)
                .take(max + 1)
                .read_to_end(&mut bytes),
            other => {
                let name = &member.name;
                let text = format!("{name} in it is packed by method {other}, which is not read");
                return (Err(text), 0);
            }
        };
        let unpacked = bytes.len() as u64;
        let end = self.file.stream_position().unwrap_or(start);
        let content = match read {
            Err(_) => Err(damaged(member)),
            Ok(_) if unpacked > max => Err(too_long(member)),
            Ok(_) => Ok(bytes),
        };
        (content, unpacked.max(end.saturating_sub(start)))
    }

    /// Goes to where a member's content is.
    fn start_of(&mut self, member: &Member) -> Option<u64> {
        let at = self.base.checked_add(member.offset)?;
        let header = bytes_at(self.file, at, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return None;
        }
        let lengths = u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        self.file.seek(SeekFrom::Start(at + 30 + lengths)).ok()
    }
}

fn damaged(member: &Member) -> String {
    format!("{} in it is damaged", member.name)
}

pub(super) fn too_long(member: &Member) -> String {
    format!("{} exceeds the size limit when decompressed", member.name)
}

fn find_end(file: &mut dyn ReadSeek) -> Option<End> {
    let size = file.seek(SeekFrom::End(0)).ok()?;
    let start = size.saturating_sub(MAX_END);
    let tail = bytes_at(file, start, size - start)?;
    let found = tail
        .windows(4)
        .rposition(|window| window == b"PK\x05\x06")?;
    let record = tail.get(found..)?;
    let at = start + found as u64;
    let end = End {
        at,
        size: u32_at(record, 12)?.into(),
        offset: u32_at(record, 16)?.into(),
    };
    let is_large = end.offset == u64::from(u32::MAX) || end.size == u64::from(u32::MAX);
    if is_large {
        large_end(file, at)
    } else {
        Some(end)
    }
}

/// The end record of archives over four gigabytes.
fn large_end(file: &mut dyn ReadSeek, end: u64) -> Option<End> {
    let locator = bytes_at(file, end.checked_sub(20)?, 20)?;
    let at = locator
        .strip_prefix(b"PK\x06\x07")
        .and_then(|rest| u64_at(rest, 4))?;
    let record = bytes_at(file, at, 56)?;
    record.starts_with(b"PK\x06\x06").then_some(())?;
    Some(End {
        at,
        size: u64_at(&record, 40)?,
        offset: u64_at(&record, 48)?,
    })
}

fn members(list: &[u8]) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    let mut rest = list;
    while rest.starts_with(b"PK\x01\x02") {
        let name = usize::from(u16_at(rest, 28)?);
        let extra = usize::from(u16_at(rest, 30)?);
        let comment = usize::from(u16_at(rest, 32)?);
        let fields = rest.get(46 + name..46 + name + extra)?;
        let (packed, size, offset) = (u32_at(rest, 20)?, u32_at(rest, 24)?, u32_at(rest, 42)?);
        let (packed, offset) = large_fields(fields, packed, size, offset)?;
        members.push(Member {
            name: String::from_utf8_lossy(rest.get(46..46 + name)?).into_owned(),
            method: u16_at(rest, 10)?,
            packed,
            offset,
        });
        rest = rest.get(46 + name + extra + comment..)?;
    }
    Some(members)
}

/// Length and place of a member, which are in a field of their own when they are large.
fn large_fields(mut fields: &[u8], packed: u32, size: u32, offset: u32) -> Option<(u64, u64)> {
    let (mut packed, mut offset) = (u64::from(packed), u64::from(offset));
    let large = u64::from(u32::MAX);
    while let (Some(id), Some(length)) = (u16_at(fields, 0), u16_at(fields, 2)) {
        let value = fields.get(4..4 + usize::from(length))?;
        if id == 1 {
            let mut at = if size == u32::MAX { 8 } else { 0 };
            for number in [&mut packed, &mut offset] {
                if *number == large {
                    *number = u64_at(value, at)?;
                    at += 8;
                }
            }
        }
        fields = fields.get(4 + usize::from(length)..)?;
    }
    Some((packed, offset))
}

fn bytes_at(file: &mut dyn ReadSeek, at: u64, length: u64) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(at)).ok()?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_file_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
            let at = at.min(bytes.len());
            bytes.splice(at..at, *b"PK\x05\x06");
            bytes.splice(0..0, *b"PK\x01\x02");
            if let Ok(mut archive) = Archive::open(&mut Cursor::new(bytes)) {
                for member in std::mem::take(&mut archive.members) {
                    _ = archive.read(&member, 1000);
                }
            }
        }
    }
}
