//! Programs that say what they were built from: Rust's by `cargo auditable` (section `.dep-v0`),
//! Go's by the linker (`.go.buildinfo`). Only the headers and these sections are read.

use std::io::{Read as _, SeekFrom};

use flate2::read::ZlibDecoder;
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader as _};
use object::{Endianness, ReadCache, ReadRef};
use serde::Deserialize;

use super::{ReadSeek, Reading, golang};
use crate::{Ecosystem, Package};

/// Notes of honest programs are smaller, in bytes.
const MAX_SECTION: u64 = 16 << 20;
/// Programs have fewer sections: each is read.
const MAX_SECTIONS: u32 = 100_000;
/// What a list of crates unpacks to at most, in bytes.
const MAX_LIST: u64 = 8 << 20;

/// What a program says of itself; nothing when the file is no program, or says nothing.
pub(super) fn read(file: &mut dyn ReadSeek) -> Option<Reading> {
    let mut ident = [0; 5];
    file.read_exact(&mut ident).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    let class = ident.strip_prefix(b"\x7fELF")?.first()?;
    let cache = ReadCache::new(file);
    match class {
        1 => notes::<FileHeader32<Endianness>, _>(&cache),
        2 => notes::<FileHeader64<Endianness>, _>(&cache),
        _ => None,
    }
}

fn notes<'data, E, R>(data: R) -> Option<Reading>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.shnum(endian, data).ok()? > MAX_SECTIONS {
        return Some(Reading::problem("it has too many sections to be a program"));
    }
    let sections = header.sections(endian, data).ok()?;
    let section = |name: &[u8]| {
        let (_, section) = sections.section_by_name(endian, name)?;
        let size: u64 = section.sh_size(endian).into();
        let content = (size <= MAX_SECTION).then(|| section.data(endian, data).ok());
        Some(content.flatten())
    };
    match (section(b".dep-v0"), section(b".go.buildinfo")) {
        (Some(Some(bytes)), _) => Some(crates(bytes)),
        (None, Some(Some(bytes))) => Some(golang::read(bytes)),
        (None, None) => None,
        _ => Some(Reading::problem(
            "the list of what it was built from is damaged",
        )),
    }
}

#[derive(Deserialize)]
struct Crates {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    #[serde(default)]
    kind: String,
    /// `crates.io`, `git`, `local`, `registry`.
    #[serde(default)]
    source: String,
}

/// `cargo auditable`'s list: compressed JSON. What only the build needed isn't in the program.
fn crates(bytes: &[u8]) -> Reading {
    let mut text = Vec::new();
    let unpacked = ZlibDecoder::new(bytes)
        .take(MAX_LIST + 1)
        .read_to_end(&mut text);
    if unpacked.is_err() || text.len() as u64 > MAX_LIST {
        return Reading::problem("the crate list can't be decompressed");
    }
    let Ok(list) = serde_json::from_slice::<Crates>(&text) else {
        return Reading::problem("the crate list can't be parsed");
    };
    let used = list.packages.into_iter().filter(|one| one.kind != "build");
    Reading::packages(used.map(|one| Package {
        supplier: Some(one.source).filter(|source| source == "crates.io"),
        ..Package::new(Ecosystem::Cargo, one.name, one.version)
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;
    use crate::Claim;

    #[test]
    fn what_is_no_program_says_nothing() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01"] {
            assert!(read(&mut Cursor::new(bytes)).is_none());
        }
    }

    #[test]
    fn lists_of_crates() {
        let list = br#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io"},{"name":"cc","version":"1","source":"crates.io","kind":"build"}]}"#;
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(list).unwrap();
        let Some(Claim::Packages(packages)) = crates(&packed.finish().unwrap()).claim else {
            panic!()
        };
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].purl(None), "pkg:cargo/a@1.0.0");
        assert_eq!(crates(b"no").problems.len(), 1);
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 9 << 20]).unwrap();
        assert_eq!(
            crates(&bomb.finish().unwrap()).problems,
            ["the crate list can't be decompressed"]
        );
    }
}
