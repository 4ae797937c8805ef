//! The program that runs on workers: kiln itself, or another kiln that the user names for another
//! kind of machine. A static one needs nothing of a worker; one that is linked dynamically takes its
//! interpreter and libraries along, which serves where an action sees its inputs as its root, and
//! elsewhere needs a worker with the same C library.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kiln_cache::sha256_of;
use kiln_tree::host;

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;

use crate::ClusterError;
use crate::digest::of_blob;

/// A program for workers.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    /// Go's name of the processors that it is for.
    pub(crate) architecture: String,
    pub(crate) program: HelperFile,
    /// What it is linked with.
    pub(crate) libraries: Vec<HelperFile>,
}

/// A file of this machine that goes to workers.
#[derive(Clone, Debug)]
pub(crate) struct HelperFile {
    /// Where it is here.
    pub(crate) path: PathBuf,
    /// Where it is looked for there.
    pub(crate) target: PathBuf,
    pub(crate) digest: Digest,
}

impl HelperFile {
    fn new(path: PathBuf, target: PathBuf) -> Result<Self, ClusterError> {
        let fail = |error: std::io::Error| ClusterError::File {
            path: path.clone(),
            reason: error.to_string(),
        };
        let size = host::metadata(&path).map_err(fail)?.len();
        let digest = of_blob(&sha256_of(&path).map_err(fail)?, size);
        Ok(Self {
            path,
            target,
            digest,
        })
    }
}

impl Helper {
    /// The running program.
    pub(crate) fn own() -> Result<Self, ClusterError> {
        Self::of(Path::new("/proc/self/exe"))
    }

    /// A program of the user's choice.
    pub(crate) fn of(path: &Path) -> Result<Self, ClusterError> {
        let fail = |reason: String| ClusterError::File {
            path: path.to_owned(),
            reason,
        };
        let head = head(path).map_err(|error| fail(error.to_string()))?;
        let elf = Elf::read(&head).ok_or_else(|| fail("it is no program for Linux".to_owned()))?;
        let mut libraries = Vec::new();
        if let Some(interpreter) = elf.interpreter {
            for (path, target) in linked_here(&interpreter) {
                libraries.push(HelperFile::new(path, target)?);
            }
        }
        Ok(Self {
            architecture: elf.architecture.to_owned(),
            program: HelperFile::new(path.to_owned(), PathBuf::new())?,
            libraries,
        })
    }

    /// Whether it needs nothing of a worker.
    pub(crate) fn is_static(&self) -> bool {
        self.libraries.is_empty()
    }
}

/// The beginning of a program: its headers and its interpreter's name are in it.
fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    _ = host::open(path)?.take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a program's headers say (`elf(5)`, 64 bits, little-endian).
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    architecture: &'static str,
    interpreter: Option<PathBuf>,
}

impl Elf {
    fn read(head: &[u8]) -> Option<Self> {
        const CLASS_64: u8 = 2;
        const LITTLE_ENDIAN: u8 = 1;
        const PT_INTERP: u32 = 3;
        let is_elf = head.starts_with(b"\x7fELF")
            && head.get(4) == Some(&CLASS_64)
            && head.get(5) == Some(&LITTLE_ENDIAN);
        let architecture = match u16_at(head, 18).filter(|_| is_elf)? {
            62 => "amd64",
            183 => "arm64",
            243 => "riscv64",
            258 => "loong64",
            21 => "ppc64le",
            _ => return None,
        };
        let (table, size, count) = (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?);
        let headers = (0..usize::from(count)).map(|at| table + at * usize::from(size));
        let mut interpreters = headers.filter(|&at| u32_at(head, at) == Some(PT_INTERP));
        let interpreter = match interpreters.next() {
            Some(at) => Some(text_at(
                head,
                u64_at(head, at + 8)?,
                u64_at(head, at + 32)?,
            )?),
            None => None,
        };
        Some(Self {
            architecture,
            interpreter,
        })
    }
}

fn bytes_at<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..)?.first_chunk().copied()
}

fn u16_at(head: &[u8], at: usize) -> Option<u16> {
    bytes_at(head, at).map(u16::from_le_bytes)
}

fn u32_at(head: &[u8], at: usize) -> Option<u32> {
    bytes_at(head, at).map(u32::from_le_bytes)
}

fn u64_at(head: &[u8], at: usize) -> Option<usize> {
    let value = bytes_at(head, at).map(u64::from_le_bytes)?;
    usize::try_from(value).ok().filter(|&value| value < 1 << 20)
}

fn text_at(head: &[u8], at: usize, length: usize) -> Option<PathBuf> {
    let bytes = head.get(at..at + length)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok().map(PathBuf::from)
}

/// What this process is linked with: the interpreter under the name that programs have for it, and
/// the libraries where the kernel says that they are mapped from.
fn linked_here(interpreter: &Path) -> Vec<(PathBuf, PathBuf)> {
    let maps = host::read_to_string("/proc/self/maps").unwrap_or_default();
    let real = host::canonicalize(interpreter).unwrap_or_else(|_| interpreter.to_owned());
    let mut files = vec![(real.clone(), interpreter.to_owned())];
    let libraries = libraries_of(&maps).into_iter();
    files.extend(
        libraries
            .filter(|path| *path != real)
            .map(|path| (path.clone(), path)),
    );
    files
}

/// The shared libraries among the mapped files (`/proc/PID/maps`).
fn libraries_of(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_library = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        (name.ends_with(".so") || name.contains(".so.")) && !path.ends_with(" (deleted)")
    };
    paths.filter(is_library).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_their_headers() {
        let own = std::env::current_exe().unwrap();
        let elf = Elf::read(&head(&own).unwrap()).unwrap();
        assert_eq!(elf.architecture, kiln_graph::Platform::host().architecture);
        let helper = Helper::of(&own).unwrap();
        assert_eq!(helper.is_static(), elf.interpreter.is_none());
        assert_eq!(Elf::read(b"#!/bin/sh\n"), None);
        let whole = head(&own).unwrap();
        for end in 0..whole.len().min(200) {
            _ = Elf::read(&whole[..end]);
        }
    }

    #[test]
    fn libraries_are_found_among_mapped_files() {
        let maps = "\
7f00-7f01 r--p 00000000 08:01 1 /usr/lib/x/libc.so.6
7f01-7f02 r-xp 00000000 08:01 1 /usr/lib/x/libc.so.6
7f02-7f03 r-xp 00000000 08:01 2 /usr/bin/kiln
7f03-7f04 r-xp 00000000 08:01 3 /usr/lib/x/libold.so.1 (deleted)
7f04-7f05 rw-p 00000000 00:00 0 [heap]
";
        let found: Vec<PathBuf> = libraries_of(maps).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/usr/lib/x/libc.so.6")]);
    }
}
