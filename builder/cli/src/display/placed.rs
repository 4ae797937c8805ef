//! Where a step runs that could run elsewhere.

use std::time::Duration;

/// Where a step runs that could run elsewhere, in words.
pub(super) fn placed(
    place: Option<&str>,
    reason: Option<&str>,
    queued: Option<Duration>,
    waiting: bool,
) -> String {
    match (place, reason, queued) {
        (Some(place), ..) if waiting => format!("waits for a worker of {place}"),
        (Some(place), _, Some(queued)) => {
            format!(
                "on {place}, after {:.1}s in its queue",
                queued.as_secs_f64()
            )
        }
        (Some(place), ..) => format!("on {place}"),
        (None, Some(reason), _) => format!("on this machine: {reason}"),
        (None, None, _) => "on this machine".to_owned(),
    }
}
