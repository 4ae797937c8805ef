//! What is said about builds: errors with their source lines, summaries, explanations, traces.

mod diagnostic;
pub(crate) mod explain;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub(crate) mod summary;
pub(crate) mod what_if;

pub(crate) use diagnostic::{error, warning, warning_fields};
pub(crate) use kiln::excerpt;

/// Milliseconds as people read them: `80 ms`, `1.5 s`, `2m 05s`.
pub(crate) fn seconds(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000.. => format!("{}m {:02}s", millis / 60_000, millis % 60_000 / 1000),
    }
}
