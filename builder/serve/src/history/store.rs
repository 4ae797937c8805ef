//! Records of builds on disk, each with its blobs.
//!
//! ```text
//! <store>/history/<digest of the build's reference>/
//!     record      BuildHistoryRecord of BuildKit's API, as protobuf
//!     <sha256>    a blob that the record names
//! ```
//!
//! A directory gets its name when it is whole. Records that are not pinned go by number and age.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kiln_graph::{BlobDigest, Digest};
use kiln_tree::host;
use prost::Message as _;
use tokio::sync::broadcast;

use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, Descriptor,
};
use crate::proto::timestamp;

const RECORD: &str = "record";
/// Begins the names of directories that aren't whole.
const ASIDE: &str = ".new-";
/// Events that a listener may lag behind.
const LAG: usize = 256;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// How many builds.
    pub entries: usize,
    /// For how long.
    pub age: Duration,
}

impl Default for HistoryLimits {
    /// What BuildKit remembers.
    fn default() -> Self {
        Self {
            entries: 50,
            age: Duration::from_secs(48 * 60 * 60),
        }
    }
}

/// Something that a record names.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    media_type: String,
    annotations: HashMap<String, String>,
    digest: BlobDigest,
    bytes: Vec<u8>,
}

impl Blob {
    /// Bytes of a media type.
    pub(crate) fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            annotations: HashMap::new(),
            digest: BlobDigest::of(&bytes),
            bytes,
        }
    }

    /// The same with an annotation.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Names it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: i64::try_from(self.bytes.len()).unwrap_or(i64::MAX),
            annotations: self.annotations.clone(),
        }
    }
}

/// All records.
#[derive(Debug)]
pub(crate) struct History {
    root: PathBuf,
    limits: HistoryLimits,
    /// Held by whoever changes a record.
    writing: Mutex<()>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

impl History {
    /// The records in a store's directory.
    pub(crate) fn of(store: &Path, limits: HistoryLimits) -> Self {
        let history = Self {
            root: store.join("history"),
            limits,
            writing: Mutex::default(),
            events: broadcast::Sender::new(LAG),
        };
        for entry in history.directories(|name| name.starts_with(ASIDE)) {
            _ = host::remove_dir_all(entry);
        }
        history
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<BuildHistoryEvent> {
        self.events.subscribe()
    }

    /// Tells those who listen.
    pub(crate) fn tell(&self, kind: BuildHistoryEventType, record: &BuildHistoryRecord) {
        // Nobody may be listening.
        _ = self.events.send(BuildHistoryEvent {
            r#type: kind.into(),
            record: Some(record.clone()),
        });
    }

    fn directories(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = host::read_dir(&self.root).into_iter().flatten();
        let paths = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            wanted(entry.file_name().to_str()?).then(|| entry.path())
        });
        paths.collect()
    }

    fn place(&self, reference: &str) -> PathBuf {
        self.root.join(Digest::of(reference.as_bytes()).to_string())
    }

    /// The record of a build.
    pub(crate) fn record(&self, reference: &str) -> Option<BuildHistoryRecord> {
        read(&self.place(reference))
    }

    /// All records, the oldest first.
    pub(crate) fn records(&self) -> Vec<BuildHistoryRecord> {
        let places = self.directories(|name| !name.starts_with(ASIDE));
        let mut all: Vec<_> = places.iter().filter_map(|place| read(place)).collect();
        all.sort_by_key(begun_at);
        all
    }

    /// The file of a blob that a record names.
    pub(crate) fn blob(&self, digest: &BlobDigest) -> Option<PathBuf> {
        let name = digest.hex();
        let places = self.directories(|name| !name.starts_with(ASIDE));
        let mut files = places.into_iter().map(|place| place.join(&name));
        files.find(|file| host::metadata(file).is_ok())
    }

    /// All blobs, each once, with their files.
    pub(crate) fn blobs(&self) -> BTreeMap<BlobDigest, PathBuf> {
        let places = self.directories(|name| !name.starts_with(ASIDE));
        let files = places.iter().flat_map(host::read_dir).flatten().flatten();
        let named = files.filter_map(|file| {
            let name = format!("sha256:{}", file.file_name().to_str()?);
            Some((name.parse().ok()?, file.path()))
        });
        named.collect()
    }

    /// The blob of a build that its record names so.
    pub(crate) fn blob_of(&self, reference: &str, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let digest: BlobDigest = descriptor.digest.parse().ok()?;
        host::read(self.place(reference).join(digest.hex())).ok()
    }

    /// Remembers a build that has ended.
    pub(crate) fn put(&self, record: &BuildHistoryRecord, blobs: &[Blob]) -> io::Result<()> {
        let _alone = self.lock();
        let place = self.place(&record.r#ref);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.root.join(format!("{ASIDE}{name}"));
        host::create_dir_all(&aside)?;
        let written = (|| {
            for blob in blobs {
                host::write(aside.join(blob.digest.hex()), &blob.bytes)?;
            }
            host::write(aside.join(RECORD), record.encode_to_vec())?;
            _ = host::remove_dir_all(&place);
            host::rename(&aside, &place)
        })();
        if written.is_err() {
            _ = host::remove_dir_all(&aside);
        }
        self.forget();
        written?;
        self.tell(BuildHistoryEventType::Complete, record);
        Ok(())
    }

    /// Forgets what is too old, or too much.
    fn forget(&self) {
        let mut all = self.records();
        all.retain(|record| !record.pinned);
        let too_many = all.len().saturating_sub(self.limits.entries);
        let oldest = SystemTime::now().checked_sub(self.limits.age);
        let oldest = oldest.map(|time| timestamp(time).seconds);
        for (number, record) in all.iter().enumerate() {
            let is_old = oldest.is_some_and(|oldest| begun_at(record).0 < oldest);
            if number < too_many || is_old {
                _ = host::remove_dir_all(self.place(&record.r#ref));
            }
        }
    }

    /// Changes a record; `false` when there is none.
    pub(crate) fn pin(&self, reference: &str, pinned: bool) -> io::Result<bool> {
        let _alone = self.lock();
        let Some(mut record) = self.record(reference) else {
            return Ok(false);
        };
        record.pinned = pinned;
        record.generation += 1;
        let file = self.place(reference).join(RECORD);
        let aside = host::aside(&file);
        host::write(&aside, record.encode_to_vec())?;
        host::rename(&aside, &file)?;
        self.tell(BuildHistoryEventType::Complete, &record);
        Ok(true)
    }

    /// Forgets a build; `false` when it isn't remembered.
    pub(crate) fn remove(&self, reference: &str) -> io::Result<bool> {
        let _alone = self.lock();
        let Some(record) = self.record(reference) else {
            return Ok(false);
        };
        host::remove_dir_all(self.place(reference))?;
        self.tell(BuildHistoryEventType::Deleted, &record);
        Ok(true)
    }
}

fn read(place: &Path) -> Option<BuildHistoryRecord> {
    let bytes = host::read(place.join(RECORD)).ok()?;
    BuildHistoryRecord::decode(bytes.as_slice()).ok()
}

/// When a build began, to sort by.
fn begun_at(record: &BuildHistoryRecord) -> (i64, i32) {
    let at = record.created_at.unwrap_or_default();
    (at.seconds, at.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(reference: &str, age: u64) -> BuildHistoryRecord {
        let begun = SystemTime::now() - Duration::from_secs(age);
        BuildHistoryRecord {
            r#ref: reference.to_owned(),
            created_at: Some(timestamp(begun)),
            ..BuildHistoryRecord::default()
        }
    }

    fn names(history: &History) -> Vec<String> {
        let records = history.records().into_iter();
        records.map(|record| record.r#ref).collect()
    }

    #[test]
    fn records_go_by_number_and_age_unless_they_are_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let limits = HistoryLimits {
            entries: 2,
            age: Duration::from_secs(100),
        };
        let history = History::of(directory.path(), limits);
        for (reference, age) in [("old", 90), ("a", 50), ("b", 40)] {
            history.put(&record(reference, age), &[]).unwrap();
            _ = history.pin("old", true).unwrap();
        }
        assert_eq!(names(&history), ["old", "a", "b"]);
        history.put(&record("c", 30), &[]).unwrap();
        assert_eq!(names(&history), ["old", "b", "c"]);
        history.put(&record("ancient", 1000), &[]).unwrap();
        assert_eq!(names(&history), ["old", "b", "c"]);
        assert!(history.pin("old", false).unwrap() && !history.pin("x", true).unwrap());
        history.put(&record("d", 20), &[]).unwrap();
        assert_eq!(names(&history), ["c", "d"]);
    }

    #[test]
    fn blobs_go_with_their_records() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::of(directory.path(), HistoryLimits::default());
        let blob = Blob::new("text/plain", b"log".to_vec()).with("k", "v");
        let digest: BlobDigest = blob.descriptor().digest.parse().unwrap();
        // References are the clients' own words.
        let reference = "../../x";
        history
            .put(&record(reference, 1), std::slice::from_ref(&blob))
            .unwrap();
        let file = history.blob(&digest).unwrap();
        assert!(file.starts_with(directory.path().join("history")));
        let found = history.blob_of(reference, &blob.descriptor());
        assert_eq!(found.as_deref(), Some(&b"log"[..]));
        assert!(history.remove(reference).unwrap() && !history.remove(reference).unwrap());
        assert_eq!(history.blob(&digest), None);
    }

    #[test]
    fn what_was_not_whole_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("history/.new-x");
        host::create_dir_all(&left).unwrap();
        host::write(left.join(RECORD), record("x", 1).encode_to_vec()).unwrap();
        let history = History::of(directory.path(), HistoryLimits::default());
        assert!(names(&history).is_empty() && host::metadata(left).is_err());
    }
}
