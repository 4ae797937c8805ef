//! Times as Go's `time.ParseDuration` reads them: `1h30m`, `1.5s`, `500ms`.

/// Units in nanoseconds.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Digits of a fraction that count.
const MAX_DIGITS: usize = 18;

/// Nanoseconds.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let shown = crate::quote::quote(text);
    let invalid = || format!("time: invalid duration {shown}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && part.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {shown}"));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let unit = crate::quote::quote(unit);
            return Err(format!("time: unknown unit {unit} in duration {shown}"));
        };
        total += amount(whole, part, *size).ok_or_else(invalid)?;
        rest = after;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn amount(whole: &str, part: &str, size: i128) -> Option<i128> {
    let number = |text: &str| match text {
        "" => Some(0),
        text if text.len() > 2 * MAX_DIGITS => None,
        text => text.parse::<i128>().ok(),
    };
    let part = &part[..part.len().min(MAX_DIGITS)];
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    number(whole)?
        .checked_mul(size)?
        .checked_add(number(part)? * size / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("-1s", -1_000_000_000),
            ("+5ms", 5_000_000),
            ("3us", 3_000),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for bad in ["", "5", "x", "1y", "1.s.", "9999999999h", "-", "1s x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
