//! What a worker gives back: the directory `out`. Format 1.
//!
//! ```text
//! out/report.json       a [`Report`]
//! out/blobs/<SHA-256>   manifests and layers of the trees that steps left, and their logs
//! ```
//!
//! Change sets are trees as shared caches have them ([`kiln_share::RemoteTree`]): the manifest says
//! owners, modes, extended attributes, times, whiteouts and devices, the layer holds the files. A
//! log is a sequence of records: the stream (1 byte: 1 standard output, 2 standard error), the
//! milliseconds since the step began (4 bytes, little-endian), the length (the same), the bytes.
//!
//! All of it is a stranger's word: sizes have bounds, blobs are believed by their digests only, and
//! a tree is unpacked like any layer from a registry.

use kiln_execute::EngineError;
use kiln_graph::{BlobDigest, ImagePath};
use kiln_share::RemoteTree;
use kiln_solve::Stream;
use serde::{Deserialize, Serialize};

use crate::live::{stream_number, stream_of};

pub(crate) const VERSION: u32 = 1;

/// The directory of outputs.
pub(crate) const OUT: &str = "out";
/// The report's name in it.
pub(crate) const REPORT: &str = "report.json";
/// No report is larger, in bytes.
pub(crate) const MAX_REPORT: u64 = 16 << 20;
/// No output that is used as a value is longer, in bytes.
pub(crate) const MAX_STDOUT: usize = 64 << 10;
/// The stream of a record that says that a step begins (see [`crate::live`]).
pub(crate) const STEP_BEGINS: u8 = 0;
/// What is kept of a step's log, in bytes.
pub(crate) const MAX_LOG: usize = 64 << 20;

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    /// The worker's host name.
    pub(crate) host: String,
    /// Why nothing was run at all, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// What came of the steps, as far as they were begun.
    pub(crate) steps: Vec<StepReport>,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepReport {
    #[serde(flatten)]
    pub(crate) end: StepEnd,
    /// What it wrote.
    pub(crate) log: Option<Log>,
    /// How long it ran, in milliseconds.
    pub(crate) took: u64,
    /// Processor time of all its processes together, in milliseconds.
    pub(crate) cpu: u64,
    /// The most memory that one of its processes had at once, in bytes.
    pub(crate) memory: u64,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub(crate) enum StepEnd {
    /// It succeeded.
    Ran {
        tree: RemoteTree,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdout: Option<String>,
    },
    /// It ran and failed.
    Failed(FailedStep),
    /// It couldn't be run there, or its result not be kept.
    Unable {
        /// Why, in words.
        reason: String,
    },
}

/// A step that ran and failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedStep {
    /// How its command ended, in words.
    pub(crate) how: String,
    /// The last lines that it wrote.
    pub(crate) last_output: String,
    /// Some of the files that it had changed.
    pub(crate) changed: Vec<ImagePath>,
    /// How many they are.
    pub(crate) changed_in_all: usize,
    /// What it left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<RemoteTree>,
}

/// The blob of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) blob: BlobDigest,
    /// In bytes.
    pub(crate) size: u64,
}

impl Report {
    /// A report of steps that were run, or of why nothing is, in words.
    pub(crate) fn new(host: String, ran: Result<Vec<StepReport>, String>) -> Self {
        let (refused, steps) = match ran {
            Ok(steps) => (None, steps),
            Err(reason) => (Some(reason), Vec::new()),
        };
        Self {
            version: VERSION,
            host,
            refused,
            steps,
        }
    }

    /// Reads what a worker wrote about `ordered` steps.
    ///
    /// # Errors
    /// In words, when it is no report of these steps.
    pub(crate) fn read(bytes: &[u8], ordered: usize) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("its report can't be understood: {error}"))?;
        if report.version != VERSION {
            return Err(format!("its report has version {}", report.version));
        }
        if report.steps.len() > ordered {
            return Err("its report is about more steps than were ordered".to_owned());
        }
        if !report.trees().all(is_plain) {
            return Err("its report names layers of a kind that kiln makes none of".to_owned());
        }
        if report.steps.is_empty() && report.refused.is_none() {
            return Err("its report is about no step".to_owned());
        }
        Ok(report)
    }

    fn trees(&self) -> impl Iterator<Item = &RemoteTree> {
        self.steps.iter().filter_map(|step| match &step.end {
            StepEnd::Ran { tree, .. } => Some(tree),
            StepEnd::Failed(failed) => failed.tree.as_ref(),
            StepEnd::Unable { .. } => None,
        })
    }
}

/// Whether a tree has the form in which workers send them: its layer may become one of an image, with
/// what is said of it.
fn is_plain(tree: &RemoteTree) -> bool {
    let layer = &tree.layer;
    layer.annotations.is_empty()
        && layer.media_type == kiln_image::layer::Codec::default().media_type()
        && matches!(tree.manifest, kiln_share::RemoteManifest::Blob { .. })
}

impl StepEnd {
    /// Whether it succeeded.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Ran { .. })
    }

    /// How a step ended that gave an error. A failure of the command is its result; everything else is
    /// found again where the step is run next.
    pub(crate) fn of_error(error: EngineError, tree: Option<RemoteTree>) -> Self {
        match error {
            EngineError::Step(failure) => Self::Failed(FailedStep {
                how: failure.how,
                last_output: failure.last_output,
                changed_in_all: failure.changed.all,
                changed: failure.changed.some,
                tree,
            }),
            other => Self::Unable {
                reason: other.to_string(),
            },
        }
    }
}

/// Adds a record to a log, unless it is full.
pub(crate) fn log_record(log: &mut Vec<u8>, stream: Stream, millis: u32, bytes: &[u8]) {
    if log.len() + bytes.len() <= MAX_LOG {
        log.extend(record(stream_number(stream), millis, bytes));
    }
}

/// What comes before a record's bytes, in bytes.
const HEADER: usize = 9;

/// A record. What is too long for one is left out.
pub(crate) fn record(kind: u8, millis: u32, bytes: &[u8]) -> Vec<u8> {
    let Ok(length) = u32::try_from(bytes.len()) else {
        return Vec::new();
    };
    let mut record = Vec::with_capacity(HEADER + bytes.len());
    record.push(kind);
    record.extend_from_slice(&millis.to_le_bytes());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

/// The records of a log; what can't be understood ends it.
pub(crate) fn log_records(mut log: &[u8]) -> Vec<(Stream, &[u8])> {
    let mut records = Vec::new();
    while let Some(((kind, bytes), rest)) = first_record(log) {
        let Some(stream) = stream_of(kind) else { break };
        records.push((stream, bytes));
        log = rest;
    }
    records
}

/// What a record is about, and its bytes.
type Record<'a> = (u8, &'a [u8]);

/// The first record of some bytes, once it is whole, and what comes after it.
pub(crate) fn first_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (_millis, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    Some(((*kind, bytes), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn logs_are_read_as_they_were_written(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            cut in 0usize..200,
        ) {
            let stream = |out| if out { Stream::Stdout } else { Stream::Stderr };
            let mut log = Vec::new();
            for (out, bytes) in &records {
                log_record(&mut log, stream(*out), 7, bytes);
            }
            let read = log_records(&log);
            let want: Vec<(Stream, &[u8])> =
                records.iter().map(|(out, bytes)| (stream(*out), &bytes[..])).collect();
            prop_assert_eq!(&read, &want);
            let part = log_records(&log[..cut.min(log.len())]);
            prop_assert_eq!(&part[..], &want[..part.len()]);
        }

        #[test]
        fn no_log_and_no_report_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            _ = log_records(&bytes);
            prop_assert!(Report::read(&bytes, 1).is_err());
        }
    }

    #[test]
    fn reports_that_say_too_much_or_nothing_are_refused() {
        let step = r#"{"end":"unable","reason":"r","log":null,"took":1,"cpu":1,"memory":1}"#;
        let report = |version: u32, refused: &str, steps: &[&str]| {
            let steps = steps.join(",");
            let text = format!(
                r#"{{"version":{version},"host":"h","refused":{refused},"steps":[{steps}]}}"#
            );
            Report::read(text.as_bytes(), 1).map(|report| report.steps.len())
        };
        assert_eq!(report(1, "null", &[step]), Ok(1));
        assert_eq!(report(1, "\"why\"", &[]), Ok(0));
        for (bad, reason) in [
            (report(2, "null", &[step]), "version 2"),
            (report(1, "null", &[step, step]), "more steps"),
            (report(1, "null", &[]), "no step"),
        ] {
            assert!(bad.unwrap_err().contains(reason));
        }
    }
}
