//! Sizes and times as people write and read them.

use std::time::Duration;

/// `500MB`, `20GiB`: a number of bytes. Powers of 1000, or of 1024 with an `i`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size: write it as 500MB or 20GiB");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| bad())?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let base: u64 = if unit.contains('i') { 1024 } else { 1000 };
    let power = match unit.trim_end_matches(['b', 'i']) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    number.checked_mul(base.pow(power)).ok_or_else(bad)
}

/// `30m`, `12h`, `7d`, `2w`: a time.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is no time: write it as 30m, 12h, 7d or 2w");
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let number: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| bad())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(bad()),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Milliseconds as people read them.
pub(crate) fn seconds(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000.. => format!("{}m {:02}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        assert_eq!(parse("10"), Ok(10));
        assert_eq!(parse("2kB"), Ok(2000));
        assert_eq!(parse("1GiB"), Ok(1 << 30));
        assert!(parse("GB").is_err() && parse("1 furlong").is_err());
        assert!(parse("99999999999TB").is_err());
        assert_eq!(age("2h"), Ok(Duration::from_secs(7200)));
        assert!(age("h").is_err() && age("").is_err() && age("2é").is_err());
    }
}
