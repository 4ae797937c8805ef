//! Times of functions, in the form of RFC 3339.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Now.
pub(crate) fn now() -> Result<String, String> {
    shown(
        OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .map_err(|error| error.to_string())?,
    )
}

fn read(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| format!("'{text}' is no time: {error}"))
}

fn shown(time: OffsetDateTime) -> Result<String, String> {
    time.format(&Rfc3339).map_err(|error| error.to_string())
}

/// A time and a duration such as `-1h30m`.
pub(crate) fn add(text: &str, duration: &str) -> Result<String, String> {
    let sum = read(text)?.checked_add(read_duration(duration)?);
    shown(sum.ok_or("timeadd: the year is out of range")?)
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration: write 1h30m, 45s or 10ms");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let unit = rest
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(unit);
        let end = behind.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = behind.split_at(end.unwrap_or(behind.len()));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let each = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        seconds += number * each;
        rest = after;
    }
    Duration::checked_seconds_f64(sign * seconds).ok_or_else(wrong)
}

/// A time as a pattern has it: `YYYY`, `MM`, `DD`, `hh`, `mm`, `ss` and their kin, text in `'…'`.
pub(crate) fn format(pattern: &str, text: &str) -> Result<String, String> {
    let time = read(text)?;
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let inside = &rest[1..];
            let end = inside.find('\'').ok_or("formatdate: a quote has no end")?;
            out.push_str(&inside[..end]);
            rest = &inside[end + 1..];
            continue;
        }
        let end = rest.find(|c| c != first).unwrap_or(rest.len());
        let (letters, behind) = rest.split_at(end);
        match first.is_ascii_alphabetic() {
            true => out.push_str(&part(time, letters)?),
            false => out.push_str(letters),
        }
        rest = behind;
    }
    Ok(out)
}

fn part(time: OffsetDateTime, letters: &str) -> Result<String, String> {
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let (month, day) = (time.month(), time.weekday());
    Ok(match letters {
        "YYYY" => format!("{:04}", time.year()),
        "YY" => format!("{:02}", time.year().rem_euclid(100)),
        "MMMM" => month.to_string(),
        "MMM" => month.to_string()[..3].to_owned(),
        "MM" => format!("{:02}", u8::from(month)),
        "M" => u8::from(month).to_string(),
        "DD" => format!("{:02}", time.day()),
        "D" => time.day().to_string(),
        "EEEE" => day.to_string(),
        "EEE" => day.to_string()[..3].to_owned(),
        "hh" => format!("{:02}", time.hour()),
        "h" => time.hour().to_string(),
        "HH" => format!("{hour12:02}"),
        "H" => hour12.to_string(),
        "AA" => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "aa" => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        "mm" => format!("{:02}", time.minute()),
        "m" => time.minute().to_string(),
        "ss" => format!("{:02}", time.second()),
        "s" => time.second().to_string(),
        "Z" => zone(time, ":", "Z"),
        "ZZZZ" => zone(time, "", "+0000"),
        "ZZZ" => zone(time, "", "UTC"),
        "ZZZZZ" => zone(time, ":", "+00:00"),
        other => {
            return Err(format!(
                "formatdate: '{other}' is no part of a time: quote it"
            ));
        }
    })
}

fn zone(time: OffsetDateTime, separator: &str, utc: &str) -> String {
    let (hours, minutes, _) = time.offset().as_hms();
    if hours == 0 && minutes == 0 {
        return utc.to_owned();
    }
    let sign = if hours < 0 || minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}{separator}{:02}", hours.abs(), minutes.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moved_and_shown() {
        let time = "2020-02-03T16:05:06Z";
        assert_eq!(add(time, "-1h30m").as_deref(), Ok("2020-02-03T14:35:06Z"));
        for (pattern, want) in [
            ("YYYY-MM-DD hh:mm:ss", "2020-02-03 16:05:06"),
            ("EEE, D MMM YY H'h'AA ZZZ", "Mon, 3 Feb 20 4hPM UTC"),
            ("", ""),
        ] {
            assert_eq!(format(pattern, time).as_deref(), Ok(want), "{pattern}");
        }
        for wrong in [
            add(time, "1"),
            add(time, "1y"),
            add("now", "1h"),
            format("Q", time),
        ] {
            assert!(wrong.is_err(), "{wrong:?}");
        }
    }
}
