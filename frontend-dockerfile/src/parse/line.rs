//! Logical lines: directives, comments, continuations, here-documents.

use std::sync::Arc;

use kiln_graph::Location;

use super::directive::{self, Directives};
use super::heredoc;
use crate::DockerfileError;
use crate::ast::{Comment, Directive, Heredoc};
use crate::error::lines;
use crate::limits::{MAX_INSTRUCTIONS, MAX_LINE};

/// An instruction's text.
#[derive(Debug)]
pub(crate) struct Line {
    /// Continuations joined; blanks at its end are still there.
    pub(crate) text: String,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The comments above it.
    pub(crate) comments: Vec<String>,
    pub(crate) heredocs: Vec<Heredoc>,
}

#[derive(Default)]
pub(crate) struct Read {
    pub(crate) escape: char,
    pub(crate) directives: Vec<Directive>,
    pub(crate) lines: Vec<Line>,
    /// Where instructions end that have an empty line behind a continuation.
    pub(crate) empty_continuations: Vec<Location>,
    pub(crate) comments: Vec<Comment>,
}

/// Reads a whole file.
pub(crate) fn read(file: &Arc<str>, text: &str) -> Result<Read, DockerfileError> {
    let Directives {
        escape,
        found,
        lines: skipped,
    } = directive::read(file, text)?;
    let mut read = read_lines(file, text, escape, 1, skipped)?;
    read.directives = found;
    Ok(read)
}

struct Reader<'a> {
    file: &'a Arc<str>,
    escape: char,
    rest: std::iter::Zip<std::ops::RangeFrom<u32>, std::str::SplitInclusive<'a, char>>,
    read: Read,
}

/// Reads instructions, the first line having the number `first`. Comments in the first
/// `directives` lines describe nothing.
pub(crate) fn read_lines(
    file: &Arc<str>,
    text: &str,
    escape: char,
    first: u32,
    directives: u32,
) -> Result<Read, DockerfileError> {
    let rest = (first..).zip(text.split_inclusive('\n'));
    let mut reader = Reader {
        file,
        escape,
        rest,
        read: Read {
            escape,
            ..Read::default()
        },
    };
    let mut comments = Vec::new();
    while let Some((number, line)) = reader.next()? {
        if let Some(comment) = reader.comment(number, line) {
            match comment {
                _ if number < first + directives => {}
                // An empty comment parts a description from what follows.
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
        } else if !line.trim().is_empty() {
            reader.instruction(number, line, std::mem::take(&mut comments))?;
        }
    }
    Ok(reader.read)
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(u32, &'a str)>, DockerfileError> {
        let Some((number, line)) = self.rest.next() else {
            return Ok(None);
        };
        if line.len() > MAX_LINE {
            let text = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            return Err(DockerfileError::at(lines(self.file, number, number), text));
        }
        Ok(Some((number, line)))
    }

    /// The text of a comment line, which is noted.
    fn comment(&mut self, number: u32, line: &'a str) -> Option<&'a str> {
        let text = line.trim().strip_prefix('#')?;
        let before = line.chars().take_while(|c| *c != '#').count();
        let mut location = lines(self.file, number, number);
        location.column = u32::try_from(before + 1).unwrap_or(u32::MAX);
        self.read.comments.push(Comment {
            text: text.trim().to_owned(),
            location,
        });
        // As BuildKit does, only the line's first character is taken off: what is said in an
        // indented comment begins with the `#`.
        let mut chars = line.chars();
        chars.next();
        Some(chars.as_str().trim())
    }

    fn instruction(
        &mut self,
        first: u32,
        line: &str,
        comments: Vec<String>,
    ) -> Result<(), DockerfileError> {
        let mut text = String::new();
        let (mut last, mut has_empty) = (first, false);
        let mut open = self.add(line.trim_start(), &mut text);
        while open {
            let Some((number, line)) = self.next()? else {
                break;
            };
            last = number;
            if self.comment(number, line).is_some() {
                continue;
            }
            if line.trim().is_empty() {
                has_empty = true;
                continue;
            }
            open = self.add(line, &mut text);
        }
        if has_empty {
            let at = lines(self.file, last, last);
            self.read.empty_continuations.push(at);
        }
        let (heredocs, last) = self.heredocs(&text, first, last)?;
        if self.read.lines.len() >= MAX_INSTRUCTIONS {
            let message = format!("the file has more than {MAX_INSTRUCTIONS} instructions");
            return Err(DockerfileError::at(lines(self.file, first, last), message));
        }
        self.read.lines.push(Line {
            text,
            first,
            last,
            comments,
            heredocs,
        });
        Ok(())
    }

    /// Adds a physical line; whether it goes on in the next one.
    fn add(&self, line: &str, text: &mut String) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(self.escape) {
            // The escape itself is escaped.
            Some(kept) if !kept.ends_with(self.escape) => {
                text.push_str(kept);
                true
            }
            _ => {
                text.push_str(line);
                false
            }
        }
    }

    fn heredocs(
        &mut self,
        text: &str,
        first: u32,
        mut last: u32,
    ) -> Result<(Vec<Heredoc>, u32), DockerfileError> {
        let mut heredocs = Vec::new();
        if !text.contains("<<") || !super::node::takes_heredocs(text, self.escape) {
            return Ok((heredocs, last));
        }
        let starts = heredoc::starts(text)
            .map_err(|message| DockerfileError::at(lines(self.file, first, last), message))?;
        for mut heredoc in starts {
            last = self.content(&mut heredoc, first)?;
            heredocs.push(heredoc);
        }
        Ok((heredocs, last))
    }

    /// Reads a here-document's text; the number of the line that ends it.
    fn content(&mut self, heredoc: &mut Heredoc, first: u32) -> Result<u32, DockerfileError> {
        while let Some((number, line)) = self.next()? {
            let mut end = line.trim_end_matches(['\r', '\n']);
            if heredoc.chomp {
                end = end.trim_start_matches('\t');
            }
            if end == heredoc.name {
                return Ok(number);
            }
            heredoc.content.push_str(line);
        }
        let location = lines(self.file, first, first);
        let name = &heredoc.name;
        Err(DockerfileError::at(
            location,
            format!("unterminated heredoc: no line is just '{name}'"),
        )
        .with_help(format!("end the text with a line that holds only {name}")))
    }
}
