//! The walk along one word.

use std::collections::BTreeSet;

use super::pattern::{Pattern, Work};
use super::{Lexer, Lookup};
use crate::limits::{MAX_EXPANDED, MAX_SUBSTITUTION_DEPTH};

pub(super) struct Scanner<'a> {
    lexer: Lexer,
    lookup: Lookup<'a>,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    /// Whether a bound was hit, so that the error is about that.
    over: bool,
    work: Work,
    pub(super) set: BTreeSet<String>,
    pub(super) unset: BTreeSet<String>,
}

/// The text so far, and its words.
#[derive(Default)]
struct Words {
    text: String,
    done: Vec<String>,
    open: String,
}

impl Words {
    /// A character that separates words when it is a blank.
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.open.push(c);
        } else if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        (self.text, self.done)
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(lexer: Lexer, word: &str, lookup: Lookup<'a>) -> Self {
        Self {
            lexer,
            lookup,
            chars: word.chars().collect(),
            at: 0,
            depth: 0,
            over: false,
            work: Work::default(),
            set: BTreeSet::new(),
            unset: BTreeSet::new(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(String, Vec<String>), String> {
        self.until(None, self.lexer.raw_escapes)
    }

    fn too_long(&mut self) -> String {
        self.over = true;
        format!("it becomes longer than {MAX_EXPANDED} bytes")
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Up to `end`, which is consumed; to the end of the word without one.
    fn until(
        &mut self,
        end: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), String> {
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if words.text.len() > MAX_EXPANDED {
                return Err(self.too_long());
            }
            if Some(c) == end {
                self.at += 1;
                return Ok(words.finish());
            }
            self.one(c, raw_escapes, &mut words)?;
        }
        match end {
            None => Ok(words.finish()),
            Some(end) => Err(format!(
                "unexpected end of statement while looking for matching {end}"
            )),
        }
    }

    /// The next character, with what belongs to it.
    fn one(&mut self, c: char, raw_escapes: bool, words: &mut Words) -> Result<(), String> {
        match c {
            '$' => {
                let value = self.variable()?;
                value.chars().for_each(|c| words.push(c));
                words.text.push_str(&value);
                return Ok(());
            }
            '\'' if !self.lexer.ignore_quotes => {
                let quoted = self.single_quoted()?;
                words.open.push_str(&quoted);
                words.text.push_str(&quoted);
            }
            '"' if !self.lexer.ignore_quotes => {
                let quoted = self.double_quoted(raw_escapes)?;
                words.open.push_str(&quoted);
                words.text.push_str(&quoted);
            }
            '<' => {
                let text = self.heredoc_start();
                words.open.push_str(&text);
                words.text.push_str(&text);
            }
            c if c == self.lexer.escape => self.escaped(raw_escapes, words),
            c => {
                self.at += 1;
                words.push(c);
                words.text.push(c);
            }
        }
        Ok(())
    }

    fn escaped(&mut self, raw_escapes: bool, words: &mut Words) {
        self.at += 1;
        let kept = raw_escapes.then_some(self.lexer.escape);
        let next = self.next();
        for c in kept.into_iter().chain(next) {
            words.open.push(c);
            words.text.push(c);
        }
    }

    /// `<<` keeps the blanks behind it, so that a here-document's name is in the same word.
    fn heredoc_start(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut text = "<<".to_owned();
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            self.at += 1;
            text.push(c);
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let start = self.at;
        self.at += 1;
        while let Some(c) = self.next() {
            if c == '\'' {
                let inside = match self.lexer.raw_quotes {
                    true => start..self.at,
                    false => start + 1..self.at - 1,
                };
                return Ok(self.chars[inside].iter().collect());
            }
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        if self.lexer.raw_quotes {
            out.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching double-quote"
                            .to_owned(),
                    );
                }
                Some('"') => {
                    self.at += 1;
                    if self.lexer.raw_quotes {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.variable()?),
                Some(c) => {
                    self.at += 1;
                    self.in_double_quotes(c, raw_escapes, &mut out);
                }
            }
            if out.len() > MAX_EXPANDED {
                return Err(self.too_long());
            }
        }
    }

    /// Between double quotes only `"`, `$` and the escape itself are escaped.
    fn in_double_quotes(&mut self, c: char, raw_escapes: bool, out: &mut String) {
        if c != self.lexer.escape {
            out.push(c);
            return;
        }
        if raw_escapes {
            out.push(c);
        }
        match self.peek() {
            None => {}
            Some(next) if ['"', '$'].contains(&next) || next == c => {
                self.at += 1;
                out.push(next);
            }
            Some(_) => out.push(c),
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() == Some('{') {
            self.at += 1;
            self.depth += 1;
            if self.depth > MAX_SUBSTITUTION_DEPTH {
                self.over = true;
                return Err(format!(
                    "substitutions are nested more than {MAX_SUBSTITUTION_DEPTH} deep"
                ));
            }
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name) {
            None if self.lexer.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some(c) if "@*#?-$!".contains(c) => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
                    self.at += 1;
                }
            }
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let seen = match value {
            Some(_) => &mut self.set,
            None => &mut self.unset,
        };
        seen.insert(name.to_owned());
        value
    }

    fn braced(&mut self) -> Result<String, String> {
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => match self.value(&name) {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.next() {
                Some(c @ ('+' | '-' | '?')) => self.conditional(&name, c, true),
                Some(c @ ('#' | '%')) => Err(unsupported(&format!(":{c}"))),
                other => {
                    // The rest is read, and the variable is looked up, before the modifier is judged.
                    self.inner('}', false)?;
                    self.value(&name);
                    Err(unsupported(&format!(":{}", shown(other))))
                }
            },
            Some(c @ ('+' | '-' | '?')) => self.conditional(&name, c, false),
            Some(c @ ('#' | '%')) => self.trim(&name, c),
            Some('/') => self.replace(&name),
            other => Err(unsupported(&shown(other))),
        }
    }

    /// The word up to `end`, inside of a substitution.
    fn inner(&mut self, end: char, raw_escapes: bool) -> Result<String, String> {
        let word = self.until(Some(end), raw_escapes);
        word.map(|(text, _)| text).map_err(|error| match end {
            _ if self.over || self.peek().is_some() => error,
            '/' => "syntax error: missing '/' in ${}".to_owned(),
            _ => "syntax error: missing '}'".to_owned(),
        })
    }

    fn conditional(
        &mut self,
        name: &str,
        operator: char,
        empty_is_unset: bool,
    ) -> Result<String, String> {
        let word = self.inner('}', false)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let was_set = value.is_some();
        let filled = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (operator, filled) {
            ('-', filled) => Ok(filled.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if !word.is_empty() => Err(format!("{name}: {word}")),
            (_, None) if was_set => Err(format!("{name}: is not allowed to be empty")),
            (_, None) => Err(format!("{name}: is not allowed to be unset")),
        }
    }

    fn trim(&mut self, name: &str, operator: char) -> Result<String, String> {
        let word = self.inner('}', true)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let longest = word.starts_with(operator);
        let text = if longest { &word[1..] } else { &word };
        let pattern = Pattern::parse(text).map_err(|error| bad_pattern(text, &error))?;
        match operator {
            '#' => pattern.without_prefix(&value, longest, &mut self.work),
            _ => pattern.without_suffix(&value, longest, &mut self.work),
        }
    }

    fn replace(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let text = self.inner('/', true)?;
        let with = self.inner('}', true)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{text}/{with}}}"));
        }
        let pattern = Pattern::parse(&text).map_err(|error| bad_pattern(&text, &error))?;
        pattern.replace(&value.unwrap_or_default(), &with, all, &mut self.work)
    }
}

fn shown(c: Option<char>) -> String {
    c.map(String::from).unwrap_or_default()
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

fn bad_pattern(pattern: &str, error: &str) -> String {
    format!("invalid pattern ({pattern}) in substitution: {error}")
}
