//! Shows a build's events: as plain lines, or in place on a terminal.

mod ci;
mod heartbeat;
mod last_lines;
mod placed;
mod plain;
mod screen;
mod transfer;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_engine::{EVENTS_VERSION, Event, EventSink};

use crate::command::json_for_logs;
use kiln::redacted;

pub(crate) use ci::annotation;
use ci::{Ci, Service};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// In place on a terminal, in a CI service's groups there, plain elsewhere.
    #[default]
    Auto,
    /// In place.
    Tty,
    /// Lines.
    Plain,
    /// Lines, in groups that GitHub Actions folds.
    Github,
    /// Lines, in sections that GitLab CI folds.
    Gitlab,
    /// Nothing.
    Quiet,
    /// One JSON object a line.
    Rawjson,
}

impl Style {
    /// Whether somebody reads it.
    pub(crate) fn is_for_people(self) -> bool {
        !matches!(self, Self::Quiet | Self::Rawjson)
    }

    /// The style that is meant here.
    pub(crate) fn resolve(self) -> Self {
        match (self, Service::detect()) {
            (Self::Auto, _) if std::io::stderr().is_terminal() => Self::Tty,
            (Self::Auto, Some(Service::GitHub)) => Self::Github,
            (Self::Auto, Some(Service::GitLab)) => Self::Gitlab,
            (Self::Auto, None) => Self::Plain,
            (chosen, _) => chosen,
        }
    }
}

/// A display on standard error.
pub(crate) fn display(style: Style) -> Arc<dyn EventSink> {
    match style.resolve() {
        Style::Quiet => Arc::new(|_| {}),
        Style::Rawjson => Arc::new(raw_json),
        Style::Tty => Arc::new(tty::Tty::start()),
        Style::Github => Arc::new(Ci::new(Service::GitHub)),
        Style::Gitlab => Arc::new(Ci::new(Service::GitLab)),
        Style::Auto | Style::Plain => Arc::new(plain::Plain::start()),
    }
}

fn raw_json(event: Event) {
    line(&redacted(event));
}

/// Makes everything that is said from now on events, of which another command has said the version.
pub(crate) fn go_on_in_json() {
    FOR_PROGRAM.store(true, Ordering::Relaxed);
}

/// Whether standard error is for a program, which reads JSON only.
static FOR_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Makes everything that is said from now on events; the first says their version.
pub(crate) fn speak_json() {
    if !FOR_PROGRAM.swap(true, Ordering::Relaxed) {
        line(&serde_json::json!({ "event": "version", "version": EVENTS_VERSION }));
    }
}

/// Whether everything that is said is to be events.
pub(crate) fn is_for_program() -> bool {
    FOR_PROGRAM.load(Ordering::Relaxed)
}

/// Says something that isn't progress: to a program as an event, and above lines that are drawn;
/// whether it was said that way.
pub(crate) fn say(text: &str) -> bool {
    if !is_for_program() {
        return tty::print_above(text);
    }
    match text.strip_prefix("WARNING: ") {
        Some(message) => event("warning", &serde_json::json!({ "message": message })),
        None => event("message", &serde_json::json!({ "message": text })),
    }
    true
}

/// Writes an event of the command's own.
pub(crate) fn event(name: &str, fields: &impl serde::Serialize) {
    let mut value = serde_json::json!({ "event": name });
    if let (Some(own), Ok(serde_json::Value::Object(fields))) =
        (value.as_object_mut(), serde_json::to_value(fields))
    {
        own.extend(fields);
    }
    line(&value);
}

fn line(value: &impl serde::Serialize) {
    use std::io::Write as _;
    if let Ok(text) = serde_json::to_string(value) {
        _ = writeln!(std::io::stderr().lock(), "{}", json_for_logs(&text));
    }
}
