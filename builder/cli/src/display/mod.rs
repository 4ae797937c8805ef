//! Shows a build's events: as plain lines, or in place on a terminal.

mod ci;
mod last_lines;
mod plain;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;

use kiln_engine::{EVENTS_VERSION, Event, EventSink};

use crate::command::json_for_logs;
use crate::redacted::redacted;

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
        Style::Rawjson => {
            line(&serde_json::json!({ "event": "version", "version": EVENTS_VERSION }));
            Arc::new(raw_json)
        }
        Style::Tty => Arc::new(tty::Tty::new()),
        Style::Github => Arc::new(Ci::new(Service::GitHub)),
        Style::Gitlab => Arc::new(Ci::new(Service::GitLab)),
        Style::Auto | Style::Plain => Arc::new(plain::Plain::default()),
    }
}

fn raw_json(event: Event) {
    line(&redacted(event));
}

fn line(value: &impl serde::Serialize) {
    use std::io::Write as _;
    if let Ok(text) = serde_json::to_string(value) {
        _ = writeln!(std::io::stderr().lock(), "{}", json_for_logs(&text));
    }
}
