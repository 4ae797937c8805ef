//! The files that were read, as one stretch of bytes: a span alone says in which file it lies.

use std::ops::Range;

use kiln_graph::Location;

use crate::error::{TomlError, Wrong};

/// The main file, then those it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files(Vec<File>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    text: String,
    /// Where its bytes begin in the whole.
    start: usize,
    /// Where its lines begin: places are asked for often, and files can be long.
    lines: Vec<usize>,
}

impl File {
    /// The line of a byte, from 0.
    fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte) - 1
    }
}

impl Files {
    /// Adds a file. What comes back is its text behind as many line feeds as there are bytes
    /// before it, so that the spans of whoever parses it are right for the whole.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> String {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let end = |file: &File| file.start + file.text.len() + 1;
        let start = self.0.last().map_or(0, end);
        let after_feeds = text.match_indices('\n').map(|(at, _)| at + 1);
        self.0.push(File {
            name: name.to_owned(),
            text: text.to_owned(),
            start,
            lines: std::iter::once(0).chain(after_feeds).collect(),
        });
        "\n".repeat(start) + text
    }

    fn file(&self, span: &Range<usize>) -> Option<&File> {
        self.0.iter().rev().find(|file| file.start <= span.start)
    }

    /// Whether a location is in the file that includes the others.
    pub(crate) fn is_main(&self, location: &Location) -> bool {
        let main = self.0.first();
        main.is_some_and(|file| file.name == location.file.as_ref())
    }

    /// The lines and the column of some bytes.
    pub(crate) fn location(&self, span: &Range<usize>) -> Option<Location> {
        let file = self.file(span)?;
        let start = span.start - file.start;
        let end = span.end.saturating_sub(file.start + 1).max(start);
        let line = file.line(start);
        let before = upto(&file.text, start);
        let column = before.get(file.lines[line]..).unwrap_or_default();
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Some(Location {
            file: file.name.as_str().into(),
            line: number(line),
            column: number(column.chars().count()),
            end_line: number(file.line(end)),
        })
    }

    /// A message with its place and its line.
    pub(crate) fn error(&self, wrong: Wrong) -> TomlError {
        let location = wrong.span.as_ref().and_then(|span| self.location(span));
        let file = wrong.span.as_ref().and_then(|span| self.file(span));
        let line = location.as_ref().zip(file).and_then(|(location, file)| {
            let start = *file.lines.get(location.line as usize - 1)?;
            let line = file.text[start..].lines().next();
            Some(line.unwrap_or_default().to_owned())
        });
        TomlError {
            message: wrong.message,
            location,
            line,
        }
    }
}

/// The text before a byte, or before the character that the byte is in.
fn upto(text: &str, mut end: usize) -> &str {
    end = end.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_say_which_file() {
        let mut files = Files::default();
        assert_eq!(
            files.add("a", "\u{feff}x = 1\ny = 'é' z\n"),
            "x = 1\ny = 'é' z\n"
        );
        let second = files.add("b", "q = 2\n");
        let at = second.find('2').unwrap();
        let cases = [
            (0..1, "a:1:1"),
            (6..7, "a:2:1"),
            (15..16, "a:2:9"),
            (at..at + 1, "b:1:5"),
            (at..at + 900, "b:1:5"),
        ];
        for (span, want) in cases {
            let found = files.location(&span).map(|at| at.to_string());
            assert_eq!(found.as_deref(), Some(want), "{span:?}");
        }
        let place = files.location(&(2..10)).unwrap();
        assert_eq!((place.line, place.end_line), (1, 2));
        let error = files.error(Wrong::at(&(at..at + 1), "bad"));
        assert_eq!(error.line.as_deref(), Some("q = 2"));
        assert_eq!(error.to_string(), "b:1:5: bad");
    }
}
