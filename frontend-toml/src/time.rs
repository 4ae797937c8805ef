//! Durations in a kiln.toml.

use std::time::Duration;

use kiln_graph::{Reuse, parse_duration};

use crate::error::Wrong;
use crate::text::Text;

/// When a stored result is used: `always`, `never`, or a time.
pub(crate) fn reuse(text: &Text) -> Result<Reuse, Wrong> {
    match text.value.as_str() {
        "always" => Ok(Reuse::Always),
        "never" => Ok(Reuse::Never),
        other => parse(other).map(Reuse::Within).ok_or_else(|| {
            let message =
                format!("'{other}' is not known here: write always, never, or a time such as 7d");
            Wrong::at(&text.span, message)
        }),
    }
}

/// A time that isn't zero.
pub(crate) fn read(text: &Text) -> Result<Duration, Wrong> {
    parse(&text.value).ok_or_else(|| {
        let message = format!(
            "invalid duration '{}': write it as 90s, 10m, 1h or 7d",
            text.value
        );
        Wrong::at(&text.span, message)
    })
}

fn parse(text: &str) -> Option<Duration> {
    parse_duration(text).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_refused() {
        assert_eq!(parse("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(parse("0s"), None);
    }
}
