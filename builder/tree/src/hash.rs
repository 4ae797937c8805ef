//! Hashes a file and notices when it changes meanwhile.

use std::fs::File;
use std::io::{self, Read as _};

use kiln_graph::{Digest, ImagePath};
use rustix::fs::{Stat, fstat};

use crate::error::Context as _;
use crate::{TreeError, TreeRoot};

const BUFFER: usize = 256 * 1024;
/// From this size on a file is hashed by several threads, in bytes.
const LARGE: u64 = 4 * 1024 * 1024;

impl TreeRoot {
    /// blake3 of a regular file.
    ///
    /// # Errors
    /// When it can't be read, is something else, or changes meanwhile.
    pub fn digest(&self, path: &ImagePath) -> Result<Digest, TreeError> {
        let file = self.open_file(path).context("read", self.path(), path)?;
        let stat = fstat(&file).context("look at", self.path(), path)?;
        let digest = hash_file(file, &stat).context("read", self.path(), path)?;
        digest.ok_or_else(|| TreeError::Changed { path: path.clone() })
    }
}

/// blake3 of an open file that `stat` described before; nothing when it has changed since.
///
/// # Errors
/// When it can't be read.
pub fn hash_file(mut file: File, stat: &Stat) -> io::Result<Option<Digest>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; buffer_size(size)];
    let mut total = 0;
    loop {
        let count = fill(&mut file, &mut buffer)?;
        total += count as u64;
        if size >= LARGE {
            hasher.update_rayon(&buffer[..count]);
        } else {
            hasher.update(&buffer[..count]);
        }
        if count < buffer.len() || total > size {
            break;
        }
    }
    let same = total == size && same_version(stat, &fstat(&file)?);
    Ok(same.then(|| hasher.finalize().into()))
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

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn same_version(before: &Stat, after: &Stat) -> bool {
    let version = |s: &Stat| {
        (
            (s.st_dev, s.st_ino, s.st_size),
            (s.st_mtime, s.st_mtime_nsec),
            (s.st_ctime, s.st_ctime_nsec),
        )
    };
    version(before) == version(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_in_its_place_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let root = TreeRoot::at(directory.path());
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        let stat = root.stat(&"a".into()).unwrap();
        assert_eq!(root.digest(&"a".into()).unwrap(), Digest::of(b"1"));
        std::fs::write(at("b"), "1").unwrap();
        std::fs::rename(at("b"), at("a")).unwrap();
        let file = root.open_file(&"a".into()).unwrap();
        assert_eq!(hash_file(file, &stat).unwrap(), None);
    }
}
