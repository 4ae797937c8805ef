//! `HEALTHCHECK`.

use super::flag::Flags;
use super::instruction::command;
use crate::ast::{Command, Healthcheck};

pub(crate) fn parse(flags: &Flags<'_>, rest: &str) -> Result<Healthcheck, String> {
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.trim().is_empty() => Ok(Healthcheck::default()),
        "NONE" => Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" if rest.trim().is_empty() => Err("missing command after HEALTHCHECK CMD".to_owned()),
        "CMD" => with_times(flags, command(rest)?),
        "" => Err("HEALTHCHECK requires at least one argument".to_owned()),
        other => Err(format!("unknown type {other} in HEALTHCHECK (try CMD)")),
    }
}

fn with_times(flags: &Flags<'_>, command: Command) -> Result<Healthcheck, String> {
    let time = |name: &str| {
        flags
            .text(name)?
            .map_or(Ok(0), |text| duration(name, &text))
    };
    let retries = match flags.text("retries")? {
        None => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(count) if count >= 0 => count,
            _ => {
                return Err(format!(
                    "--retries cannot be '{text}': it must be a number not below zero"
                ));
            }
        },
    };
    Ok(Healthcheck {
        command: Some(command),
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries,
    })
}

const UNITS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Nanoseconds of a time such as `1m30s`; zero or at least a millisecond.
fn duration(name: &str, text: &str) -> Result<i64, String> {
    let bad = || format!("invalid duration '{text}' for --{name}: write it as 1m30s or 500ms");
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = UNITS
            .iter()
            .find(|(unit, _)| *unit == &rest[..end])
            .ok_or_else(bad)?;
        total += number * unit.1;
        rest = &rest[end..];
    }
    if total != 0.0 && total < 1e6 {
        return Err(format!("Interval '{name}' cannot be less than 1ms"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "float to integer casts saturate"
    )]
    Ok(total as i64)
}
