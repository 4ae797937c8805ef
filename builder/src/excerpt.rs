//! Places in build files, as people are shown them.

use std::fmt::Write as _;

use kiln_graph::Location;
use kiln_graph::address::redact;

/// How many lines are shown before and after the ones that are meant.
const AROUND: usize = 2;

/// The lines of a location, with some around them.
#[must_use]
pub fn excerpt(location: &Location, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (first, last) = (location.line as usize, location.end_line as usize);
    if first == 0 || first > lines.len() {
        return String::new();
    }
    let mut out = format!(
        "{}:{}\n--------------------\n",
        location.file, location.line
    );
    let (from, to) = (
        first.saturating_sub(AROUND).max(1),
        (last + AROUND).min(lines.len()),
    );
    for number in from..=to {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        _ = writeln!(out, "{number:>4} | {mark} {}", redact(lines[number - 1]));
        if number == first && location.column > 1 {
            let before = " ".repeat(location.column as usize - 1);
            _ = writeln!(out, "     |     {before}^");
        }
    }
    out + "--------------------\n"
}
