//! Durations as people write and read them.

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

/// About how long: `3 weeks`, `90 minutes`, `1 second`. A unit is used from two of it on.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    const UNITS: &[(&str, u64)] = &[
        ("year", 365 * 86_400),
        ("week", 7 * 86_400),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ];
    let seconds = duration.as_secs_f64();
    let rounded = |unit: u64| (seconds / unit as f64).round() as u64;
    let larger = UNITS.iter().map(|(name, unit)| (*name, rounded(*unit)));
    let (name, number) = larger
        .into_iter()
        .find(|(_, number)| *number >= 2)
        .unwrap_or(("second", rounded(1)));
    match number {
        1 => format!("1 {name}"),
        _ => format!("{number} {name}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        let cases = [
            (0, "0 seconds"),
            (1, "1 second"),
            (89, "89 seconds"),
            (90, "2 minutes"),
            (5399, "90 minutes"),
            (5400, "2 hours"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (300 * 86_400, "43 weeks"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, want) in cases {
            assert_eq!(format_duration(Duration::from_secs(seconds)), want);
        }
    }

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
