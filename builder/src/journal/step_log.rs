//! What a step wrote, kept up to a limit: its beginning and its end.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// How much of the beginning is kept, and of the end, in bytes.
const KEPT: usize = 2 << 20;

/// A step's log while the step runs. What is kept of the end is written when it is dropped.
pub(super) struct StepLog {
    file: File,
    /// How much of the beginning is still wanted.
    wanted: usize,
    end: Vec<u8>,
    left_out: u64,
}

impl StepLog {
    /// A log in a new file, or after what is in an old one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let there = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self {
            file,
            wanted: KEPT.saturating_sub(there),
            end: Vec::new(),
            left_out: 0,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (first, rest) = bytes.split_at(self.wanted.min(bytes.len()));
        self.wanted -= first.len();
        self.file.write_all(first)?;
        self.end.extend_from_slice(rest);
        if self.end.len() > 2 * KEPT {
            self.forget(self.end.len() - KEPT);
        }
        Ok(())
    }

    fn forget(&mut self, count: usize) {
        self.end.drain(..count);
        self.left_out += count as u64;
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.end.len() > KEPT {
            self.forget(self.end.len() - KEPT);
        }
        if self.left_out > 0 {
            let line = self.end.iter().position(|byte| *byte == b'\n');
            self.forget(line.map_or(0, |at| at + 1));
            let left_out = self.left_out;
            write!(
                self.file,
                "\n[kiln keeps the first and the last 2 MiB of what a step writes: {left_out} bytes are left out here]\n"
            )?;
        }
        self.file.write_all(&std::mem::take(&mut self.end))
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        // A build is never lost for a log that can't be written.
        _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[Vec<u8>]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = StepLog::open(&path).unwrap();
        for piece in pieces {
            log.write(piece).unwrap();
        }
        drop(log);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_short_is_kept_whole() {
        for (count, size) in [(0, 0), (1, 10), (7, KEPT / 7), (2, KEPT), (4, KEPT / 2)] {
            let pieces: Vec<Vec<u8>> = (0..count).map(|n| vec![n; size]).collect();
            assert_eq!(logged(&pieces), pieces.concat(), "{count} of {size}");
        }
    }

    #[test]
    fn of_what_is_long_the_beginning_and_the_end_are_kept() {
        let lines: Vec<Vec<u8>> = (0..2_000_000)
            .map(|n| format!("line {n:07}\n").into_bytes())
            .collect();
        let total: usize = lines.iter().map(Vec::len).sum();
        let log = String::from_utf8(logged(&lines)).unwrap();
        assert!(log.len() < 2 * KEPT + 1000, "{}", log.len());
        assert!(log.starts_with("line 0000000\n") && log.ends_with("line 1999999\n"));
        let notice = log.lines().find(|line| line.starts_with('[')).unwrap();
        let (_, said) = notice.split_once("writes: ").unwrap();
        let left_out: usize = said.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(log.len() + left_out, total + notice.len() + 2);
    }
}
