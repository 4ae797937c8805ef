//! Shows a build's events: as plain lines, or in place on a terminal.

mod plain;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;

use kiln_engine::{Event, EventSink};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// In place on a terminal, plain elsewhere.
    #[default]
    Auto,
    /// In place.
    Tty,
    /// Lines.
    Plain,
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
}

/// A display on standard error.
pub(crate) fn display(style: Style) -> Arc<dyn EventSink> {
    match style {
        Style::Quiet => Arc::new(|_| {}),
        Style::Rawjson => Arc::new(raw_json),
        Style::Auto if std::io::stderr().is_terminal() => Arc::new(tty::Tty::new()),
        Style::Tty => Arc::new(tty::Tty::new()),
        Style::Auto | Style::Plain => Arc::new(plain::Plain::default()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a sink takes events")]
fn raw_json(event: Event) {
    use std::io::Write as _;
    if let Ok(line) = serde_json::to_string(&event) {
        _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
