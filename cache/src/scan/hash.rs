//! Hashes a file and notices when it changes meanwhile.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use kiln_graph::{Digest, ImagePath};
use rustix::fs::Stat;

use crate::StoreError;
use crate::error::Context as _;

const BUFFER: usize = 256 * 1024;
/// From this size on a file is hashed by several threads.
const LARGE: u64 = 4 * 1024 * 1024;

/// blake3 of the file at `host`, which `stat` described just before.
pub(crate) fn hash_file(host: &Path, path: &ImagePath, stat: &Stat) -> Result<Digest, StoreError> {
    let mut file = File::open(host).context("read", host)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; buffer_size(size)];
    let mut total = 0;
    loop {
        let count = fill(&mut file, &mut buffer).context("read", host)?;
        total += count as u64;
        if size >= LARGE {
            hasher.update_rayon(&buffer[..count]);
        } else {
            hasher.update(&buffer[..count]);
        }
        if count < buffer.len() {
            break;
        }
    }
    let after = rustix::fs::fstat(&file).context("look at", host)?;
    if total != size || !same_version(stat, &after) {
        return Err(StoreError::Changed { path: path.clone() });
    }
    Ok(hasher.finalize().into())
}

fn buffer_size(size: u64) -> usize {
    let whole = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    if size >= LARGE {
        BUFFER * 16
    } else {
        whole.min(BUFFER)
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn same_version(before: &Stat, after: &Stat) -> bool {
    let version = |s: &Stat| {
        (
            s.st_size,
            s.st_mtime,
            s.st_mtime_nsec,
            s.st_ctime,
            s.st_ctime_nsec,
        )
    };
    version(before) == version(after)
}
