//! fs-verity: the digest by which the kernel knows a file that it checks block by block when it is read
//! (Linux, `Documentation/filesystems/fsverity.rst`): SHA-256, blocks of 4 KiB, no salt.

use std::io::{self, Write};

use kiln_graph::BlobDigest;

const BLOCK: usize = 4096;

/// Takes a file, and gives its digest.
#[derive(Debug, Default)]
pub(crate) struct Verity {
    size: u64,
    /// The levels of the tree; the first is of the file's own blocks.
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    /// The block that isn't full yet.
    block: Vec<u8>,
    /// How many blocks there are before it.
    blocks: u64,
    /// The hash of the last of them.
    last: [u8; 32],
}

impl Verity {
    /// The digest of all that was written.
    pub(crate) fn digest(mut self) -> BlobDigest {
        // `struct fsverity_descriptor`: version, hash algorithm, log2 of the block size, no salt.
        let mut descriptor = vec![1, 1, 12, 0, 0, 0, 0, 0];
        descriptor.extend(self.size.to_le_bytes());
        descriptor.extend(self.root());
        descriptor.resize(256, 0);
        BlobDigest::of(&descriptor)
    }

    /// The hash of the one block of the topmost level; zeros for an empty file.
    fn root(&mut self) -> [u8; 32] {
        let mut at = 0;
        while let Some(level) = self.levels.get(at) {
            if !level.block.is_empty() {
                self.close(at);
            }
            if self.levels[at].blocks == 1 {
                return self.levels[at].last;
            }
            at += 1;
        }
        [0; 32]
    }

    /// Adds bytes to a level.
    fn push(&mut self, at: usize, mut bytes: &[u8]) {
        if self.levels.len() == at {
            self.levels.push(Level::default());
        }
        while !bytes.is_empty() {
            let block = &mut self.levels[at].block;
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
            block.extend_from_slice(now);
            bytes = rest;
            if block.len() == BLOCK {
                self.close(at);
            }
        }
    }

    /// Ends a level's block, filled up with zeros: its hash goes to the level above.
    fn close(&mut self, at: usize) {
        let level = &mut self.levels[at];
        level.block.resize(BLOCK, 0);
        let hash = *BlobDigest::of(&level.block).as_bytes();
        level.block.clear();
        level.blocks += 1;
        level.last = hash;
        self.push(at + 1, &hash);
    }
}

impl Write for Verity {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        self.push(0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fsverity digest` says of files, where it is installed.
    #[test]
    fn digests_are_those_of_fsverity() {
        let directory = tempfile::tempdir().unwrap();
        for size in [
            0,
            1,
            4095,
            4096,
            4097,
            128 * 4096,
            128 * 4096 + 1,
            3_000_000,
        ] {
            let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
            let path = directory.path().join("file");
            std::fs::write(&path, &bytes).unwrap();
            let said = std::process::Command::new("fsverity")
                .arg("digest")
                .arg(&path)
                .output();
            let Ok(said) = said else { return };
            let said = String::from_utf8(said.stdout).unwrap();
            let mut verity = Verity::default();
            for part in bytes.chunks(1000) {
                verity.write_all(part).unwrap();
            }
            let found = verity.digest().to_string();
            assert_eq!(said.split(' ').next(), Some(&*found), "{size}");
        }
    }

    #[test]
    fn the_digest_of_an_empty_file() {
        let want = "sha256:3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95";
        assert_eq!(Verity::default().digest().to_string(), want);
    }
}
