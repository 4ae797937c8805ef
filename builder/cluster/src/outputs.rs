//! What an action left in the cluster's storage: who ran it, its report, its logs.

use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::protobuf::Timestamp;
use kiln_graph::BlobDigest;
use kiln_solve::Stream;
use prost::Message as _;
use reapi::{ActionResult, Digest, Tree};

use crate::ClusterError;
use crate::digest::of_blob;
use crate::report::{Log, MAX_LOG, MAX_REPORT, OUT, REPORT, Report, log_records};
use crate::storage::Storage;

/// What is shown of what a worker wrote that gave no report, in bytes.
const MAX_COMPLAINT: usize = 2000;

/// What a worker gave back, before trees are fetched.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) given: Given,
    pub(crate) report: Report,
}

/// Who gave it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// The worker's name, as the cluster or the worker itself says; may be empty.
    pub(crate) worker: String,
    /// How long the action waited for it.
    pub(crate) queued: Option<Duration>,
}

impl Outputs {
    /// Reads the report of an action that ran `ordered` steps.
    pub(crate) async fn read(
        storage: &Storage,
        result: &ActionResult,
        ordered: usize,
    ) -> Result<Self, ClusterError> {
        let mut given = Given::of(result);
        let Some(digest) = report_digest(storage, result).await? else {
            return Err(given.no_report(storage, result).await);
        };
        let bytes = read_checked(storage, &digest, MAX_REPORT, &given).await?;
        let report = Report::read(&bytes, ordered).map_err(|reason| given.wrong(&reason))?;
        if given.worker.is_empty() {
            given.worker = printable(&report.host);
        }
        match &report.refused {
            Some(reason) => Err(given.unable(printable(reason))),
            None => Ok(Self { given, report }),
        }
    }
}

/// Where a report is: in the tree of the outputs or, of servers that list files, among these.
async fn report_digest(
    storage: &Storage,
    result: &ActionResult,
) -> Result<Option<Digest>, ClusterError> {
    let path = format!("{OUT}/{REPORT}");
    let listed = result.output_files.iter().find(|file| file.path == path);
    if let Some(digest) = listed.and_then(|file| file.digest.clone()) {
        return Ok(Some(digest));
    }
    let out = result.output_directories.iter().find(|one| one.path == OUT);
    let Some(tree) = out.and_then(|one| one.tree_digest.as_ref()) else {
        return Ok(None);
    };
    let bytes = read_checked(storage, tree, MAX_REPORT, &Given::of(result)).await?;
    let tree = Tree::decode(&bytes[..])
        .map_err(|_| ClusterError::Protocol("a tree of outputs that can't be decoded"))?;
    let files = tree.root.map(|root| root.files).unwrap_or_default();
    let report = files.into_iter().find(|file| file.name == REPORT);
    Ok(report.and_then(|file| file.digest))
}

/// A blob of a bounded size, whose digest is what it is named by.
async fn read_checked(
    storage: &Storage,
    digest: &Digest,
    max: u64,
    given: &Given,
) -> Result<Vec<u8>, ClusterError> {
    let size = u64::try_from(digest.size_bytes).unwrap_or(u64::MAX);
    if size > max {
        return Err(given.wrong(&format!("a blob of {size} bytes, where {max} are enough")));
    }
    let bytes = storage.read_whole(digest).await?;
    match BlobDigest::of(&bytes).hex() == digest.hash {
        true => Ok(bytes),
        false => Err(given.wrong(&format!("the blob {} has another digest", digest.hash))),
    }
}

impl Given {
    fn of(result: &ActionResult) -> Self {
        Self::of_metadata(result.execution_metadata.as_ref())
    }

    /// What a server says of who runs an action.
    pub(crate) fn of_metadata(metadata: Option<&reapi::ExecutedActionMetadata>) -> Self {
        let Some(metadata) = metadata else {
            return Self::default();
        };
        let (queued, began) = (&metadata.queued_timestamp, &metadata.worker_start_timestamp);
        let queued = match (queued, began) {
            (Some(queued), Some(began)) => between(queued, began),
            _ => None,
        };
        Self {
            worker: printable(&metadata.worker),
            queued,
        }
    }

    /// The worker's name as messages have it.
    fn named(&self) -> String {
        match self.worker.as_str() {
            "" => String::new(),
            worker => format!(" '{worker}'"),
        }
    }

    pub(crate) fn wrong(&self, reason: &str) -> ClusterError {
        ClusterError::Result {
            worker: self.named(),
            reason: reason.to_owned(),
        }
    }

    pub(crate) fn unable(&self, reason: String) -> ClusterError {
        ClusterError::Worker {
            worker: self.named(),
            reason,
        }
    }

    pub(crate) fn unable_step(&self, reason: String) -> ClusterError {
        ClusterError::Step {
            worker: self.named(),
            reason,
        }
    }

    /// Why there is no report, as far as the action's own output says.
    async fn no_report(&self, storage: &Storage, result: &ActionResult) -> ClusterError {
        let mut text = result.stderr_raw.clone();
        if let (true, Some(digest)) = (text.is_empty(), &result.stderr_digest) {
            let read = read_checked(storage, digest, MAX_REPORT, self).await;
            text = read.unwrap_or_default();
        }
        text.truncate(MAX_COMPLAINT);
        let text = printable(String::from_utf8_lossy(&text).trim());
        let text = match text.as_str() {
            "" => String::new(),
            text => format!(": {text}"),
        };
        ClusterError::NoReport {
            worker: self.named(),
            reason: format!(" (exit code {}){text}", result.exit_code),
        }
    }

    /// What a step wrote.
    pub(crate) async fn log(
        &self,
        storage: &Storage,
        log: &Log,
    ) -> Result<Vec<(Stream, Vec<u8>)>, ClusterError> {
        let digest = of_blob(&log.blob, log.size);
        let bytes = read_checked(storage, &digest, MAX_LOG as u64, self).await?;
        let records = log_records(&bytes).into_iter();
        Ok(records
            .map(|(stream, bytes)| (stream, bytes.to_vec()))
            .collect())
    }
}

/// The time from one moment to a later one.
fn between(from: &Timestamp, to: &Timestamp) -> Option<Duration> {
    let nanos =
        |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let passed = u64::try_from(nanos(to) - nanos(from)).ok()?;
    Some(Duration::from_nanos(passed))
}

/// A stranger's text on one line, of a bounded length.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_COMPLAINT).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_told_from_nonsense() {
        let time = |seconds, nanos| Timestamp { seconds, nanos };
        let cases = [
            (time(10, 900_000_000), time(12, 100_000_000), Some(1200)),
            (time(10, 0), time(9, 0), None),
            (time(i64::MIN, i32::MIN), time(i64::MAX, i32::MAX), None),
        ];
        for (from, to, want) in cases {
            let passed = between(&from, &to);
            assert_eq!(passed, want.map(Duration::from_millis), "{from:?} {to:?}");
        }
    }

    #[test]
    fn names_of_workers_stay_on_their_line() {
        assert_eq!(printable("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(printable(&"x".repeat(5000)).len(), MAX_COMPLAINT);
    }
}
