//! Places in build files, as people are shown them.

use std::fmt::Write as _;

use kiln_graph::Location;
use kiln_graph::address::redact;

/// How many lines are shown before and after one, and several, that are meant.
const AROUND: (usize, usize) = (2, 1);

/// The lines of a location, with some around them, as BuildKit's clients choose them: what follows
/// the last line feed is a line too.
#[must_use]
pub fn excerpt(location: &Location, text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let (first, last) = (location.line as usize, location.end_line as usize);
    if first == 0 || first > lines.len() {
        return String::new();
    }
    let mut out = format!(
        "{}:{}\n--------------------\n",
        location.file, location.line
    );
    let around = if first == last { AROUND.0 } else { AROUND.1 };
    let (from, to) = (
        first.saturating_sub(around).max(1),
        (last + around).min(lines.len()),
    );
    for number in from..=to {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        _ = writeln!(
            out,
            "{number:>4} | {mark} {}",
            redact(lines[number - 1].trim_end_matches('\r'))
        );
        if number == first && location.column > 1 {
            let before = " ".repeat(location.column as usize - 1);
            _ = writeln!(out, "     |     {before}^");
        }
    }
    out + "--------------------\n"
}
