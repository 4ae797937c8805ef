//! Makes what others wrote safe to show: a step's output, names and messages from build files,
//! images and registries. All text for terminals, logs and CI services passes through here.
//!
//! Terminals obey what is written to them: sequences (ECMA-48) move the cursor over what was
//! written before, set the title, fill the clipboard, and make some answer as if by keyboard.
//! Colours stay (`ESC [ … m`), and are ended with the line; all else goes.
//!
//! CI services take lines of a log for commands. What would be one is broken by a blank, and can
//! still be read:
//!
//! - GitHub Actions: `::NAME …::` at a line's start, `##[NAME]` anywhere;
//! - Azure Pipelines: `##vso[…]` and `##[…]` anywhere;
//! - TeamCity: `##teamcity[…]` anywhere;
//! - GitLab: `section_start:TIME:` and `section_end:TIME:` anywhere.

mod command;

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

const ESCAPE: char = '\u{1b}';
const RESET: &str = "\u{1b}[0m";

/// What kiln itself says: safe to show, and without what addresses in it carry to let somebody in.
pub(crate) fn told(text: &str) -> Cow<'_, str> {
    match kiln_graph::address::redact(text) {
        Cow::Borrowed(text) => shown(text),
        Cow::Owned(text) => Cow::Owned(shown(&text).into_owned()),
    }
}

/// Text without any control characters but line feeds and tabs, without sequences but colours, and
/// without commands to CI services.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let is_odd = |c| is_control(c) || is_invisible(c);
    if !text.chars().any(is_odd) && !command::may_be_in(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (content, end) = match line.strip_suffix('\n') {
            Some(content) => (content, "\n"),
            None => (line, ""),
        };
        let mut line = String::with_capacity(content.len());
        line_into(&mut line, content);
        command::break_into(&mut out, &line);
        out.push_str(end);
    }
    Cow::Owned(out)
}

/// A line as a terminal would show it in the end: what comes after the last return to its begin.
pub(crate) fn last_of_line(line: &str) -> &str {
    let parts = line.split('\r').rev();
    let mut seen = parts.filter(|part| !part.trim().is_empty());
    seen.next().unwrap_or("")
}

fn line_into(out: &mut String, line: &str) {
    let mut rest = line.chars().peekable();
    let mut coloured = false;
    while let Some(c) = rest.next() {
        match c {
            ESCAPE => {
                if let Some(colour) = sequence(&mut rest) {
                    coloured = true;
                    out.push_str(&colour);
                }
            }
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            '\u{9b}' => _ = control_sequence(&mut rest),
            c if is_control(c) || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    if coloured && !out.ends_with(RESET) {
        out.push_str(RESET);
    }
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// Characters that show a line in another order than it has (CVE-2021-42574), or end it for some
/// readers only.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// What follows an escape character; given back when it is a colour.
fn sequence(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    match rest.peek() {
        Some('[') => {
            rest.next();
            let parameters = control_sequence(rest)?;
            Some(format!("{ESCAPE}[{parameters}m"))
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            skip_string(rest);
            None
        }
        _ => {
            // Intermediate bytes, then one final byte.
            while rest.next_if(|c| (' '..='/').contains(c)).is_some() {}
            rest.next_if(|c| ('0'..='~').contains(c));
            None
        }
    }
}

/// The parameters of a sequence that sets a colour.
fn control_sequence(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut parameters = String::new();
    while let Some(c) = rest.next_if(|c| (' '..='?').contains(c)) {
        parameters.push(c);
    }
    let last = rest.next_if(|c| ('@'..='~').contains(c));
    let plain = parameters
        .chars()
        .all(|c| c.is_ascii_digit() || ";:".contains(c));
    (last == Some('m') && plain).then_some(parameters)
}

/// Skips a title, a clipboard's content or the like, which ends with BEL or ST.
fn skip_string(rest: &mut Peekable<Chars<'_>>) {
    while let Some(c) = rest.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            ESCAPE => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_colours_are_left() {
        let cases = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[31mred\u{1b}[0m\n", "\u{1b}[31mred\u{1b}[0m\n"),
            (
                "\u{1b}[8mhidden\nnext\n",
                "\u{1b}[8mhidden\u{1b}[0m\nnext\n",
            ),
            ("\u{1b}]0;title\u{7}a", "a"),
            ("\u{1b}]52;c;ZXZpbA==\u{1b}\\a", "a"),
            ("\u{1b}[2J\u{1b}[1;1Ha\u{1b}[6n", "a"),
            ("\u{1b}Pq#0\u{1b}\\a\u{1b}_x\u{9c}b", "ab"),
            ("\u{1b}(0a\u{1b}cb\u{1b}", "ab"),
            ("\u{9b}2Ja\u{9d}0;t\u{7}b", "ab"),
            ("a\u{8}\u{8}b\u{7f}\u{0}", "ab"),
            ("a\u{202e}b", "ab"),
            ("\u{1b}[>4;2ma", "a"),
        ];
        for (text, want) in cases {
            assert_eq!(shown(text), want, "{text:?}");
        }
        assert_eq!(last_of_line("10%\r50%\r100%\r"), "100%");
        assert_eq!(last_of_line("#9 DONE\rno"), "no");
    }

    proptest! {
        #[test]
        fn nothing_else_ever_is(text in "[\u{0}-\u{a0}]{0,60}") {
            let out = shown(&text).into_owned();
            for (at, _) in out.match_indices(ESCAPE) {
                let rest: String = out[at + 1..].chars().take_while(|c| *c != 'm').collect();
                prop_assert!(rest.strip_prefix('[').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || ";:".contains(c))), "{out:?}");
            }
            prop_assert!(out.chars().all(|c| !is_control(c) || c == ESCAPE), "{out:?}");
            prop_assert_eq!(shown(&out), out.as_str());
        }
    }
}
