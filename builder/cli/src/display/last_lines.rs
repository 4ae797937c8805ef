//! The last lines of what a step wrote, as a terminal would show them.

use std::collections::VecDeque;

/// How much of a line that doesn't end is kept, in bytes.
const LONGEST: usize = 4096;

/// The last lines.
pub(super) struct LastLines {
    most: usize,
    whole: VecDeque<String>,
    /// The line that hasn't ended.
    open: Vec<u8>,
}

impl LastLines {
    /// Keeps so many lines.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            whole: VecDeque::new(),
            open: Vec::new(),
        }
    }

    /// Takes output, cut anywhere.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.open.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line();
            } else if self.open.len() > LONGEST {
                self.open.drain(..self.open.len() - LONGEST);
            }
        }
    }

    fn end_line(&mut self) {
        let line = visible(&self.open);
        self.open.clear();
        if line.trim().is_empty() {
            return;
        }
        self.whole.push_back(line);
        if self.whole.len() > self.most {
            self.whole.pop_front();
        }
    }

    /// The last so many lines, the oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = String> {
        let open = Some(visible(&self.open)).filter(|line| !line.trim().is_empty());
        let lines: Vec<String> = self.whole.iter().cloned().chain(open).collect();
        let skipped = lines.len().saturating_sub(count);
        lines.into_iter().skip(skipped)
    }
}

/// What a line shows: after a carriage return it begins anew.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    readable(text.rsplit('\r').next().unwrap_or_default())
}

/// Text without what would move the cursor or change the terminal.
pub(super) fn readable(text: &str) -> String {
    let text = crate::terminal::shown(text);
    let text = console::strip_ansi_codes(&text);
    let text = text.replace('\t', "    ");
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_progress_bars_are_followed() {
        let mut lines = LastLines::new(2);
        for part in [
            "one\ntw",
            "o\n\n",
            "\x1b[31mthree\x1b[0m\n",
            " 10%\r 20",
            "%\r 30%",
        ] {
            lines.push(part.as_bytes());
        }
        let last = |count| lines.last(count).collect::<Vec<_>>();
        assert_eq!(last(1), [" 30%"]);
        assert_eq!(last(3), ["two", "three", " 30%"]);
    }

    #[test]
    fn nothing_moves_the_cursor() {
        let mut lines = LastLines::new(4);
        lines.push(b"a\x1b[2Jb\x07\x08\x1b]0;title\x07c\td\xff\n");
        assert_eq!(lines.last(1).collect::<Vec<_>>(), ["abc    d\u{fffd}"]);
    }

    #[test]
    fn a_line_without_an_end_stays_small() {
        let mut lines = LastLines::new(1);
        for _ in 0..10_000 {
            lines.push(b"0123456789");
        }
        assert!(lines.open.len() <= LONGEST + 10);
    }
}
