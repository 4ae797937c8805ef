//! `HEALTHCHECK`.

use super::duration;
use super::flag::{Flags, Takes};
use super::instruction::command;
use super::node::{Args, Node};
use crate::ast::{Command, Healthcheck};
use crate::error::Wrong;

const MILLISECOND: i64 = 1_000_000;

const FLAGS: &[(&str, Takes)] = &[
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];

pub(super) fn parse(node: &Node<'_>) -> Result<Healthcheck, Wrong> {
    let Args::Typed(kind, args) = &node.args else {
        return Err("HEALTHCHECK requires at least one argument"
            .to_owned()
            .into());
    };
    let kind = kind.to_ascii_uppercase();
    if kind == "NONE" {
        return match **args {
            Args::None => Ok(Healthcheck::default()),
            _ => Err("HEALTHCHECK NONE takes no arguments".to_owned().into()),
        };
    }
    let flags = Flags::new(&node.flags, FLAGS)?;
    if kind != "CMD" {
        let shown = crate::quote::quote(&kind);
        return Err(format!("Unknown type {shown} in HEALTHCHECK (try CMD)").into());
    }
    let command = command(args);
    match &command {
        Command::Shell(text) if text.is_empty() => {}
        Command::Exec(words) if words.is_empty() => {}
        _ => return with_times(&flags, command),
    }
    Err("Missing command after HEALTHCHECK CMD".to_owned().into())
}

fn with_times(flags: &Flags, command: Command) -> Result<Healthcheck, Wrong> {
    let time = |name: &str| {
        let text = flags.text(name).filter(|text| !text.is_empty());
        let time = text.map_or(Ok(0), |text| interval(name, &text));
        time.map_err(|message| Wrong::word(message, format!("--{name}")))
    };
    let retries = match flags.text("retries").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => retries(&text).map_err(|message| Wrong::word(message, "--retries"))?,
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

fn interval(name: &str, text: &str) -> Result<i64, String> {
    match duration::parse(text)? {
        time if time != 0 && time < MILLISECOND => {
            Err(format!("Interval \"{name}\" cannot be less than 1ms"))
        }
        time => Ok(time),
    }
}

fn retries(text: &str) -> Result<i64, String> {
    match text.parse::<i32>() {
        Ok(count) if count < 0 => Err(format!("--retries cannot be negative ({count})")),
        Ok(count) => Ok(count.into()),
        Err(_) => Err(format!(
            "--retries: invalid number {}: invalid syntax",
            crate::quote::quote(text)
        )),
    }
}
