//! Sizes as people write them.

/// `500MB`, `20GiB`: a number of bytes. Powers of 1000, or of 1024 with an `i`.
///
/// # Errors
/// In words, when it is none.
pub fn parse_size(text: &str) -> Result<u64, String> {
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

/// `128m`, `1.5g`, `64MB`, `1GiB`: a number of bytes of memory, in powers of 1024 whatever the unit's
/// case and ending, as Docker's command line reads them.
///
/// # Errors
/// In words, when it is none.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size: write it as 64m or 1g");
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let unit = text[end..].trim_start().to_ascii_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if !unit.starts_with('i') => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let scale = 1u64 << (10 * power);
    let (whole, fraction) = text[..end].split_once('.').unwrap_or((&text[..end], "0"));
    let digits = &fraction[..fraction.len().min(9)];
    let fraction: u64 = digits.parse().map_err(|_| bad())?;
    let fraction = u128::from(fraction) * u128::from(scale) / 10u128.pow(digits.len() as u32);
    let whole: u128 = whole.parse().map_err(|_| bad())?;
    let bytes = whole.checked_mul(scale.into()).ok_or_else(bad)? + fraction;
    u64::try_from(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        assert_eq!(parse_size("10"), Ok(10));
        assert_eq!(parse_size("2kB"), Ok(2000));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert!(parse_size("GB").is_err() && parse_size("1 furlong").is_err());
        assert!(parse_size("99999999999TB").is_err());
    }

    #[test]
    fn memory_as_docker_reads_it() {
        let cases = [
            ("134217728", 128 << 20),
            ("128m", 128 << 20),
            ("128M", 128 << 20),
            ("64MB", 64 << 20),
            ("128MiB", 128 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            ("512 K", 512 << 10),
            ("7b", 7),
            ("0", 0),
        ];
        for (text, want) in cases {
            assert_eq!(parse_memory(text), Ok(want), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "1x",
            "1ib",
            "1kk",
            "1.m",
            ".5m",
            "1.2.3",
            "99999999999p",
            "1m ",
        ] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }
}
