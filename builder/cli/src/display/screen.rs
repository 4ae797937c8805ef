//! The lines at the bottom of a terminal that are drawn again and again, below what scrolls by.
//!
//! A frame is one write: up to the first line of the frame before, what is to stay, the new frame, each line
//! in the place of what was there, and what is left of the frame before cleared. The cursor is always at the
//! start of the line below. Nothing is cleared from the first row on: tmux keeps what it takes for a whole
//! screen in its history.

use std::fmt::Write as _;

use console::measure_text_width;

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The widths of the lines of the last frame, in columns.
    drawn: Vec<usize>,
    /// What is to stay, above the next frame.
    above: String,
}

impl Screen {
    /// Adds a line that stays.
    pub(super) fn print(&mut self, line: &str) {
        self.above.push_str(line);
        self.above.push('\n');
    }

    /// Whether something waits to be drawn.
    pub(super) fn has_news(&self) -> bool {
        !self.above.is_empty()
    }

    /// What a terminal of so many columns is to be sent for the next frame.
    pub(super) fn frame(&mut self, lines: &[String], columns: usize) -> String {
        let mut out = String::new();
        // A terminal that was made narrower has broken the old lines.
        let broken = self.drawn.iter();
        let rows: usize = broken
            .map(|width| width.div_ceil(columns.max(1)).max(1))
            .sum();
        if rows > 0 {
            _ = write!(out, "\x1b[{rows}A\r");
        }
        let above = std::mem::take(&mut self.above);
        for line in above.lines().chain(lines.iter().map(String::as_str)) {
            put(&mut out, line, columns);
        }
        if rows > 0 {
            out.push_str("\x1b[J");
        }
        self.drawn = lines.iter().map(|line| measure_text_width(line)).collect();
        out
    }
}

/// Writes a line over what may be there.
fn put(out: &mut String, line: &str, columns: usize) {
    out.push_str("\x1b[K");
    out.push_str(line);
    // Behind a full row the cursor still stands on its last character.
    let width = measure_text_width(line);
    if width > columns && !width.is_multiple_of(columns.max(1)) {
        out.push_str("\x1b[K");
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    /// What a terminal shows after some writes.
    fn shown(rows: u16, columns: u16, writes: &[String]) -> String {
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        for write in writes {
            terminal.process(write.replace('\n', "\r\n").as_bytes());
        }
        let shown = terminal.screen().contents();
        shown.trim_end().to_owned()
    }

    #[test]
    fn frames_replace_each_other_below_what_stays() {
        let mut screen = Screen::default();
        let mut writes = vec![screen.frame(&texts(&["one", "two"]), 20)];
        screen.print("✔ done");
        writes.push(screen.frame(&texts(&["two", "three", "four"]), 20));
        screen.print("✔ 日本語");
        writes.push(screen.frame(&texts(&["four"]), 20));
        assert_eq!(shown(10, 20, &writes), "✔ done\n✔ 日本語\nfour");
        writes.push(screen.frame(&[], 20));
        assert_eq!(shown(10, 20, &writes), "✔ done\n✔ 日本語");
    }

    #[test]
    fn what_stays_scrolls_out_at_the_top() {
        let mut screen = Screen::default();
        let mut writes = Vec::new();
        for number in 0..10 {
            screen.print(&format!("line {number}"));
            writes.push(screen.frame(&texts(&["a", "b"]), 20));
        }
        assert_eq!(shown(5, 20, &writes), "line 8\nline 9\na\nb");
    }

    #[test]
    fn a_narrower_terminal_is_cleared_as_far_as_it_was_broken() {
        let mut screen = Screen::default();
        _ = screen.frame(&texts(&["0123456789", "ab"]), 10);
        let next = screen.frame(&texts(&["x"]), 5);
        assert_eq!(next, "\x1b[3A\r\x1b[Kx\n\x1b[J");
    }

    #[test]
    fn lines_take_the_places_of_others() {
        let mut screen = Screen::default();
        let mut writes = vec![screen.frame(&texts(&["a long line", "another one", "third"]), 20)];
        screen.print("0123456789012345678901234");
        writes.push(screen.frame(&texts(&["x", "y"]), 20));
        assert_eq!(shown(10, 20, &writes), "0123456789012345678901234\nx\ny");
        screen.print("01234567890123456789");
        writes.push(screen.frame(&texts(&["z"]), 20));
        let first = "0123456789012345678901234\n01234567890123456789\nz";
        assert_eq!(shown(10, 20, &writes), first);
    }
}
