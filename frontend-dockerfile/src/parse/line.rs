//! Logical lines: directives, comments, continuations, here-documents.

use std::sync::Arc;

use kiln_graph::Location;

use crate::DockerfileError;
use crate::ast::{Comment, Directive, Heredoc};
use crate::error::lines;

/// An instruction's text.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) comments: Vec<String>,
    pub(crate) heredocs: Vec<Heredoc>,
}

pub(crate) struct Read {
    pub(crate) escape: char,
    pub(crate) directives: Vec<Directive>,
    pub(crate) lines: Vec<Line>,
    pub(crate) empty_continuations: Vec<Location>,
    pub(crate) comments: Vec<Comment>,
}

/// Reads a whole file.
pub(crate) fn read(file: &Arc<str>, text: &str) -> Result<Read, DockerfileError> {
    let directives = directives(file, text)?;
    let escape = directives
        .iter()
        .find(|directive| directive.name == "escape");
    let escape = match escape.map(|directive| (directive.value.as_str(), directive)) {
        None => '\\',
        Some(("\\", _)) => '\\',
        Some(("`", _)) => '`',
        Some((other, directive)) => {
            let text = format!("invalid escape token '{other}' does not match ` or \\");
            return Err(DockerfileError::at(directive.location.clone(), text));
        }
    };
    let mut read = read_lines(file, text, escape, 1)?;
    read.directives = directives;
    Ok(read)
}

/// Directives stand at the very top; the first line that is none ends them.
fn directives(file: &Arc<str>, text: &str) -> Result<Vec<Directive>, DockerfileError> {
    let mut found: Vec<Directive> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if number == 1 && line.starts_with("#!") {
            continue;
        }
        let Some((name, value)) = directive(line) else {
            break;
        };
        let location = lines(file, number, number);
        if found.iter().any(|known| known.name == name) {
            let text = format!("only one {name} parser directive can be used");
            return Err(DockerfileError::at(location, text));
        }
        found.push(Directive {
            name,
            value,
            location,
        });
    }
    Ok(found)
}

fn directive(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let known = ["syntax", "escape", "check"].contains(&name.as_str());
    known.then(|| (name, value.trim().to_owned()))
}

struct Reader<'a> {
    file: &'a Arc<str>,
    escape: char,
    rest: std::iter::Peekable<std::iter::Zip<std::ops::RangeFrom<u32>, std::str::Lines<'a>>>,
    empty_continuations: Vec<Location>,
    comments: Vec<Comment>,
}

/// Reads instructions, the first line having the number `first`.
pub(crate) fn read_lines(
    file: &Arc<str>,
    text: &str,
    escape: char,
    first: u32,
) -> Result<Read, DockerfileError> {
    let rest = (first..).zip(text.lines()).peekable();
    let mut reader = Reader {
        file,
        escape,
        rest,
        empty_continuations: Vec::new(),
        comments: Vec::new(),
    };
    let mut read = Vec::new();
    let mut comments = Vec::new();
    while let Some((number, line)) = reader.rest.next() {
        let trimmed = line.trim();
        if reader.is_comment(number, line) {
            comments.push(trimmed[1..].trim().to_owned());
        } else if trimmed.is_empty() {
            comments.clear();
        } else {
            read.push(reader.instruction(number, line, std::mem::take(&mut comments))?);
        }
    }
    let (empty_continuations, comments) = (reader.empty_continuations, reader.comments);
    Ok(Read {
        escape,
        directives: Vec::new(),
        lines: read,
        empty_continuations,
        comments,
    })
}

impl Reader<'_> {
    /// Whether a line is a comment, which is then noted.
    fn is_comment(&mut self, number: u32, line: &str) -> bool {
        let Some(text) = line.trim().strip_prefix('#') else {
            return false;
        };
        let before = line.chars().take_while(|c| *c != '#').count();
        let mut location = lines(self.file, number, number);
        location.column = u32::try_from(before + 1).unwrap_or(u32::MAX);
        self.comments.push(Comment {
            text: text.trim().to_owned(),
            location,
        });
        true
    }

    fn instruction(
        &mut self,
        first: u32,
        line: &str,
        comments: Vec<String>,
    ) -> Result<Line, DockerfileError> {
        let mut text = String::new();
        let mut last = first;
        let mut open = self.add(line.trim_start(), &mut text);
        while open {
            let Some((number, line)) = self.rest.next() else {
                break;
            };
            last = number;
            let trimmed = line.trim();
            if self.is_comment(number, line) {
                continue;
            }
            if trimmed.is_empty() {
                self.empty_continuations
                    .push(lines(self.file, number, number));
                continue;
            }
            open = self.add(line, &mut text);
        }
        let text = text.trim_end().to_owned();
        let mut heredocs = Vec::new();
        for (name, expand, chomp) in heredoc_starts(&text, self.escape) {
            let (content, end) = self.heredoc(&name, chomp, first)?;
            last = end;
            heredocs.push(Heredoc {
                name,
                expand,
                chomp,
                content,
            });
        }
        Ok(Line {
            text,
            first,
            last,
            comments,
            heredocs,
        })
    }

    /// Adds a physical line; whether it goes on in the next one.
    fn add(&self, line: &str, text: &mut String) -> bool {
        let end = line.trim_end_matches([' ', '\t', '\r']);
        let Some(kept) = end.strip_suffix(self.escape) else {
            text.push_str(line);
            return false;
        };
        if kept.ends_with(self.escape) {
            text.push_str(kept);
            return false;
        }
        text.push_str(kept);
        true
    }

    fn heredoc(
        &mut self,
        name: &str,
        chomp: bool,
        first: u32,
    ) -> Result<(String, u32), DockerfileError> {
        let mut content = String::new();
        for (number, line) in self.rest.by_ref() {
            let line = if chomp {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if line == name {
                return Ok((content, number));
            }
            content.push_str(line);
            content.push('\n');
        }
        let location = lines(self.file, first, first);
        Err(DockerfileError::at(
            location,
            format!("unterminated heredoc: no line is just '{name}'"),
        )
        .with_help(format!("end the text with a line that holds only {name}")))
    }
}

/// Where here-documents may start: in RUN, COPY and ADD that are not in JSON form.
fn heredoc_starts(text: &str, escape: char) -> Vec<(String, bool, bool)> {
    let mut words = text.split_ascii_whitespace();
    let mut keyword = words.next().unwrap_or_default().to_ascii_uppercase();
    if keyword == "ONBUILD" {
        keyword = words.next().unwrap_or_default().to_ascii_uppercase();
    }
    if !["RUN", "COPY", "ADD"].contains(&keyword.as_str()) {
        return Vec::new();
    }
    let after = words
        .find(|word| !word.starts_with("--"))
        .unwrap_or_default();
    if after.starts_with('[') && text.trim_end().ends_with(']') {
        return Vec::new();
    }
    scan_heredocs(text, escape)
}

fn scan_heredocs(text: &str, escape: char) -> Vec<(String, bool, bool)> {
    let words = super::words::split(text, escape);
    words.iter().filter_map(|word| heredoc_word(word)).collect()
}

/// What a word says when it starts a here-document (digits, `<<`, perhaps `-`, a delimiter): the
/// delimiter without quotes, whether to expand, whether to chomp.
pub(crate) fn heredoc_word(word: &str) -> Option<(String, bool, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let chomp = rest.starts_with('-');
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let name: String = rest.chars().filter(|c| !['"', '\''].contains(c)).collect();
    let is_plain = name == rest;
    (!name.is_empty() && !rest.contains('<')).then_some((name, is_plain, chomp))
}
