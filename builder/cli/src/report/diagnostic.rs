//! Shows errors and warnings to people: with the lines of the build file they are about.

use std::fmt::Write as _;

use kiln_engine::EngineError;
use kiln_frontend_dockerfile::Diagnostic;
use kiln_graph::Fault;
use kiln_graph::address::redact;

use crate::command::hint;
use kiln::{Error, Texts, excerpt};

/// An error as it is shown on standard error.
pub(crate) fn error(error: &Error, texts: &Texts) -> String {
    let mut out = String::new();
    if let Error::Engine(EngineError::Step(failure)) = error
        && !failure.last_output.is_empty()
    {
        _ = writeln!(
            out,
            "------\n > {}:\n{}\n------",
            failure.name.lines().next().unwrap_or_default(),
            failure.last_output
        );
    }
    if let Some(location) = error.location() {
        out.push_str(&excerpt(location, texts.at(location)));
    }
    _ = write!(out, "ERROR: {}", redact(&error.to_string()));
    if let Some(hint) = hint::of(error, texts) {
        _ = write!(out, "; {}", redact(&hint));
    }
    if error.fault() == Fault::Kiln {
        out.push_str("\nThis is a bug in kiln; please report it.");
    }
    out
}

/// A warning as `docker build` shows it.
pub(crate) fn warning(warning: &Diagnostic) -> String {
    format!(" - {}", redact(&warning.to_string()))
}

/// A warning for programs.
pub(crate) fn warning_fields(warning: &Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "message": redact(&warning.message),
        "rule": warning.rule.name(),
        "url": warning.rule.url(),
        "location": warning.location,
    })
}
