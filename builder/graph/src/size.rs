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
}
