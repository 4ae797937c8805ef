//! Durations as people write them.

use std::time::Duration;

/// Milliseconds of each unit.
const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// `500ms`, `90s`, `10m`, `12h`, `7d`, `2w`: a whole number and one unit.
///
/// # Errors
/// In words, when it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration '{text}': write it as 90s, 10m, 12h, 7d or 2w");
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (_, unit) = UNITS
        .iter()
        .find(|(unit, _)| *unit == &text[end..])
        .ok_or_else(bad)?;
    let number: u64 = text[..end].parse().map_err(|_| bad())?;
    let millis = number.checked_mul(*unit).ok_or_else(bad)?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        let cases = [
            ("500ms", Some(500)),
            ("90s", Some(90_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("7d", Some(604_800_000)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1y", None),
            ("1.5h", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
            ("1é", None),
        ];
        for (text, want) in cases {
            let parsed = parse_duration(text).ok();
            assert_eq!(parsed, want.map(Duration::from_millis), "{text}");
        }
    }
}
