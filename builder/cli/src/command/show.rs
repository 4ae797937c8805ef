//! The ways to standard output and standard error. Nothing else writes there but displays of
//! progress.

use std::io::{IsTerminal as _, Write as _};

use crate::terminal::{shown, told};

/// Writes a line to standard error.
pub(crate) fn say(text: &str) {
    let text = told(text);
    if !crate::display::say(&text) {
        _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Writes a command to the CI service to standard error. Texts in it must be escaped.
pub(super) fn service_command(text: &str) {
    _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes what was asked for, for people, to standard output.
pub(super) fn print(text: &str) {
    _ = std::io::stdout().lock().write_all(told(text).as_bytes());
}

/// Writes a document that was asked for to standard output.
pub(super) fn print_json(value: &serde_json::Value) {
    print_json_text(&format!("{value:#}\n"));
}

/// Writes a document that is JSON already to standard output.
pub(super) fn print_json_text(text: &str) {
    let text = json_for_logs(text);
    _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a build file or script that was asked for to standard output: as it is, but to a terminal.
pub(super) fn print_exact(text: &str) {
    let mut out = std::io::stdout().lock();
    let text = match out.is_terminal() {
        true => shown(text),
        false => text.into(),
    };
    _ = out.write_all(text.as_bytes());
}

/// JSON in which no CI service finds a command: the same values in other characters.
pub(crate) fn json_for_logs(text: &str) -> String {
    text.replace("##", "#\\u0023")
        .replace("section_start:", "section_start\\u003a")
        .replace("section_end:", "section_end\\u003a")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_commands_and_the_same_values() {
        let value = serde_json::json!({ "a": "###[x] section_start:1:a", "##vso[b]": 1 });
        let text = json_for_logs(&value.to_string());
        assert!(
            !text.contains("##") && !text.contains("section_start:"),
            "{text}"
        );
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, value);
    }
}
