//! Remembers the digests of files that haven't changed, format 2.
//!
//! One file for each scanned directory: 8 bytes `kilnstat`, `u32` version, `u32` zero, then records
//! of 88 bytes sorted by device and inode, then 32 bytes blake3 of all before. A record: `u64`
//! device, `u64` inode, `u64` size, `i64` and `u32` modification time, `u32` zero, `i64` and
//! `u32` change time, `u32` flags, 32 bytes blake3 of the content. Flag 1: the file has extended
//! attributes that are its own (a change of those changes the change time). Records are searched
//! where they lie, so that loading costs one read whatever the number of files.
//!
//! A file that was written within the clock's granularity of the look at it could be written
//! again unseen (git's "racy" problem), so such files are not remembered. The inode and the
//! change time are compared too: an edit that keeps size and modification time is noticed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::Digest;
use kiln_tree::{TreeError, host};
use rustix::fs::Stat;

const MAGIC: &[u8; 8] = b"kilnstat";
const VERSION: u32 = 2;
const HEADER: usize = 16;
const RECORD: usize = 88;
const SUM: usize = 32;
/// Where a record's flags are.
const FLAGS: usize = 52;
/// Times of file systems that know nanoseconds advance at least this often, in nanoseconds.
const GRANULARITY: i128 = 100_000_000;
/// For times in whole seconds: file systems such as FAT advance every two seconds.
const COARSE_GRANULARITY: i128 = 2_100_000_000;

/// What is remembered of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its content's digest.
    pub(crate) digest: Digest,
    /// Whether it has extended attributes of its own.
    pub(crate) has_xattrs: bool,
}

pub(crate) struct StatCache {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Which of the remembered files were met again.
    met: Vec<AtomicBool>,
    fresh: Mutex<Vec<[u8; RECORD]>>,
    now: i128,
}

impl StatCache {
    /// Loads what is remembered at `path`; a missing or damaged file is an empty memory.
    pub(crate) fn load(path: PathBuf) -> Self {
        let bytes = host::read(&path)
            .ok()
            .filter(|bytes| is_whole(bytes))
            .unwrap_or_default();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i128::try_from(now.as_nanos()).unwrap_or(0);
        let count = bytes.len().saturating_sub(HEADER + SUM) / RECORD;
        Self {
            path,
            bytes,
            met: std::iter::repeat_with(AtomicBool::default)
                .take(count)
                .collect(),
            fresh: Mutex::default(),
            now,
        }
    }

    /// What is known of the file that `stat` describes: what is remembered, or what `look` finds.
    pub(crate) fn look_up(
        &self,
        stat: &Stat,
        look: impl FnOnce() -> Result<Known, TreeError>,
    ) -> Result<Known, TreeError> {
        let state = state(stat);
        if let Some((at, known)) = self.find(&state) {
            self.met[at].store(true, Ordering::Relaxed);
            return Ok(known);
        }
        let known = look()?;
        if self.is_settled(stat) {
            self.note(&state, &known);
        }
        Ok(known)
    }

    fn note(&self, state: &[u8; RECORD - SUM], known: &Known) {
        let mut record = [0; RECORD];
        record[..RECORD - SUM].copy_from_slice(state);
        record[FLAGS] = known.has_xattrs.into();
        record[RECORD - SUM..].copy_from_slice(known.digest.as_bytes());
        let fresh = self.fresh.lock();
        fresh.unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn records(&self) -> &[[u8; RECORD]] {
        let end = self.bytes.len().saturating_sub(SUM);
        self.bytes
            .get(HEADER..end)
            .unwrap_or_default()
            .as_chunks()
            .0
    }

    fn find(&self, state: &[u8; RECORD - SUM]) -> Option<(usize, Known)> {
        let at = self
            .records()
            .binary_search_by(|r| order(r).cmp(&order(state)))
            .ok()?;
        let (remembered, digest) = self.records()[at].split_last_chunk::<SUM>()?;
        let known = Known {
            digest: Digest::from_bytes(*digest),
            has_xattrs: remembered[FLAGS] != 0,
        };
        (remembered[..FLAGS] == state[..FLAGS]).then_some((at, known))
    }

    fn is_settled(&self, stat: &Stat) -> bool {
        let nanos = |s: i64, n: i128| i128::from(s) * 1_000_000_000 + n;
        let (mtime_nsec, ctime_nsec) = (stat.st_mtime_nsec.into(), stat.st_ctime_nsec.into());
        let latest = nanos(stat.st_mtime, mtime_nsec).max(nanos(stat.st_ctime, ctime_nsec));
        let coarse = mtime_nsec == 0 && ctime_nsec == 0;
        latest
            + if coarse {
                COARSE_GRANULARITY
            } else {
                GRANULARITY
            }
            < self.now
    }

    /// Stores what was seen, if anything is new; a memory that can't be stored is no failure.
    pub(crate) fn save(&self) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let was_met = |met: &AtomicBool| met.load(Ordering::Relaxed);
        if fresh.is_empty() && self.met.iter().all(was_met) {
            return;
        }
        let kept = self.records().iter().zip(&self.met);
        let kept = kept
            .filter(|(_, met)| was_met(met))
            .map(|(record, _)| *record);
        let mut records: Vec<[u8; RECORD]> = kept.chain(fresh.drain(..)).collect();
        drop(fresh);
        records.sort_unstable_by_key(|record| order(record));
        records.dedup_by_key(|record| order(record));
        let mut bytes = Vec::with_capacity(HEADER + records.len() * RECORD + SUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(records.as_flattened());
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        _ = replace(&self.path, &bytes);
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    host::create_dir_all(directory)?;
    let file = tempfile::NamedTempFile::new_in(directory)?;
    host::write(file.path(), bytes)?;
    file.persist(path)?;
    Ok(())
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((content, sum)) = bytes.split_last_chunk::<SUM>() else {
        return false;
    };
    content.len() >= HEADER
        && content.starts_with(MAGIC)
        && content[8..12] == VERSION.to_le_bytes()
        && (content.len() - HEADER).is_multiple_of(RECORD)
        && Digest::of(content).as_bytes() == sum
}

fn order(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| {
        record
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    (number(0), number(8))
}

fn state(stat: &Stat) -> [u8; RECORD - SUM] {
    let mut state = [0; RECORD - SUM];
    let fields = [
        stat.st_dev,
        stat.st_ino,
        stat.st_size.cast_unsigned(),
        stat.st_mtime.cast_unsigned(),
        stat.st_mtime_nsec,
        stat.st_ctime.cast_unsigned(),
        stat.st_ctime_nsec,
    ];
    for (place, field) in state.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn stat_of(path: &Path) -> Stat {
        rustix::fs::stat(path).unwrap()
    }

    fn known(content: &[u8]) -> Known {
        Known {
            digest: Digest::of(content),
            has_xattrs: content == b"1",
        }
    }

    fn aged(path: &Path) -> Stat {
        let mut stat = stat_of(path);
        stat.st_mtime -= 100;
        stat.st_ctime -= 100;
        stat
    }

    #[test]
    fn unchanged_files_are_hashed_once() {
        let directory = tempfile::tempdir().unwrap();
        let (file, memory) = (directory.path().join("f"), directory.path().join("memory"));
        std::fs::write(&file, b"1").unwrap();
        let hashed = Cell::new(0);
        let look = |stat: &Stat| {
            let cache = StatCache::load(memory.clone());
            let hash = || {
                hashed.set(hashed.get() + 1);
                Ok(known(b"1"))
            };
            let digest = cache.look_up(stat, hash).unwrap();
            cache.save();
            assert_eq!(digest, known(b"1"));
        };
        let stat = aged(&file);
        look(&stat);
        look(&stat);
        assert_eq!(hashed.get(), 1);
        let mut touched = stat;
        touched.st_ctime_nsec ^= 1;
        look(&touched);
        assert_eq!(hashed.get(), 2, "a change that only the change time shows");
        std::fs::write(&memory, b"damaged").unwrap();
        look(&touched);
        assert_eq!(hashed.get(), 3);
    }

    #[test]
    fn files_written_just_now_are_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let (file, memory) = (directory.path().join("f"), directory.path().join("memory"));
        std::fs::write(&file, b"1").unwrap();
        let cache = StatCache::load(memory.clone());
        cache.look_up(&stat_of(&file), || Ok(known(b"1"))).unwrap();
        cache.save();
        let cache = StatCache::load(memory);
        let digest = cache.look_up(&stat_of(&file), || Ok(known(b"2"))).unwrap();
        assert_eq!(digest, known(b"2"));
    }
}
