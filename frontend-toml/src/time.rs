//! Times: `500ms`, `90s`, `10m`, `1h`, `7d`, `2w`.

use std::time::Duration;

use kiln_graph::Reuse;

use crate::error::Wrong;
use crate::text::Text;

const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

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
            "'{}' is no time: write it as 90s, 10m, 1h or 7d",
            text.value
        );
        Wrong::at(&text.span, message)
    })
}

fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == &text[end..])?;
    let number: u64 = text[..end].parse().ok()?;
    let whole = number.checked_mul(*unit).filter(|whole| *whole > 0)?;
    Some(Duration::from_millis(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("500ms", Some(500)),
            ("90s", Some(90_000)),
            ("10m", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("1", None),
            ("s", None),
            ("0s", None),
            ("7d", Some(604_800_000)),
            ("1y", None),
            ("1.5h", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
            ("1é", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
