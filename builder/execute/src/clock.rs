//! The clock that file systems use.

use kiln_graph::Timestamp;

/// The time by the clock that file systems use: it may be a tick behind the exact one, and a file
/// written now must not look older than this.
#[must_use]
pub fn now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Timestamp {
        seconds: now.tv_sec,
        nanos: u32::try_from(now.tv_nsec).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_written_now_are_not_older_than_now() {
        let directory = tempfile::tempdir().unwrap();
        for name in 0..200 {
            let started = now();
            let path = directory.path().join(name.to_string());
            std::fs::write(&path, "").unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            let written = Timestamp {
                seconds: metadata.mtime(),
                nanos: u32::try_from(metadata.mtime_nsec()).unwrap(),
            };
            assert!(written >= started, "{written:?} is before {started:?}");
        }
    }
}
