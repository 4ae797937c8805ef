//! Times as people write and read them.

use std::time::Duration;

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
        assert_eq!(age("2h"), Ok(Duration::from_secs(7200)));
        assert!(age("h").is_err() && age("").is_err() && age("2é").is_err());
    }
}
