//! Sizes and durations as people read them.

use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};

/// A number of bytes in powers of 1024: `15 B`, `1.46 KiB`.
pub(crate) fn format_size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// About how long: `3 weeks`, `90 minutes`, `1 second`.
pub(crate) fn format_duration(duration: Duration) -> String {
    HumanDuration(duration).to_string()
}
