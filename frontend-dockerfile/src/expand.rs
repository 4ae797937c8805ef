//! Variables in words: `$NAME`, `${NAME}`, `${NAME:-word}` and its kin, quotes and escapes, as
//! BuildKit's shell lexer reads them.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// Looks variables up.
pub(crate) struct Expander<'a> {
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Names that were used without a default and are not set.
    unset: RefCell<BTreeSet<String>>,
}

/// Whether quotes and escapes are taken away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Remove,
    Keep,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            escape,
            lookup,
            unset: RefCell::default(),
        }
    }

    /// One word: variables expanded, quotes removed.
    pub(crate) fn word(&self, text: &str) -> Result<String, String> {
        let mut scanner = Scanner {
            expander: self,
            chars: text.chars().collect(),
            at: 0,
        };
        scanner.until(None, Quotes::Remove)
    }

    /// The words that a word expands to: unquoted blanks from variables split.
    pub(crate) fn words(&self, text: &str) -> Result<Vec<String>, String> {
        if text.contains(['"', '\'']) {
            return Ok(vec![self.word(text)?]);
        }
        Ok(self
            .word(text)?
            .split_whitespace()
            .map(str::to_owned)
            .collect())
    }

    /// A here-document's text: variables expanded, quotes kept.
    pub(crate) fn text(&self, text: &str) -> Result<String, String> {
        let mut scanner = Scanner {
            expander: self,
            chars: text.chars().collect(),
            at: 0,
        };
        scanner.until(None, Quotes::Keep)
    }

    /// Names that were used and are not set, since the last call.
    pub(crate) fn take_unset(&self) -> BTreeSet<String> {
        self.unset.take()
    }
}

struct Scanner<'a, 'b> {
    expander: &'a Expander<'b>,
    chars: Vec<char>,
    at: usize,
}

impl Scanner<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Up to `end`, which is consumed; to the end of the text without one.
    fn until(&mut self, end: Option<char>, quotes: Quotes) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.next() {
                None if end.is_none() => return Ok(out),
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching }".to_owned()
                    );
                }
                Some(c) if Some(c) == end => return Ok(out),
                Some('$') => out.push_str(&self.variable()?),
                Some('\'') if quotes == Quotes::Remove => self.single_quoted(&mut out)?,
                Some('"') if quotes == Quotes::Remove => self.double_quoted(&mut out)?,
                Some(c) if c == self.expander.escape => self.escaped(&mut out, quotes),
                Some(c) => out.push(c),
            }
        }
    }

    fn escaped(&mut self, out: &mut String, quotes: Quotes) {
        match (self.next(), quotes) {
            (None, _) => out.push(self.expander.escape),
            (Some(c), Quotes::Remove) => out.push(c),
            (Some(c), Quotes::Keep) if c == '$' || c == self.expander.escape => out.push(c),
            (Some(c), Quotes::Keep) => out.extend([self.expander.escape, c]),
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching single-quote"
                            .to_owned(),
                    );
                }
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching double-quote"
                            .to_owned(),
                    );
                }
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.expander.escape => match self.next() {
                    Some(next) if ['"', '$'].contains(&next) || next == c => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => out.push(c),
                },
                Some(c) => out.push(c),
            }
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        if self.peek() == Some('{') {
            self.at += 1;
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.value(&name).unwrap_or_else(|| self.note_unset(&name)))
    }

    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                self.at += 1;
            }
            _ => {
                while self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
                    self.at += 1;
                }
            }
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.expander.lookup)(name)
    }

    fn note_unset(&self, name: &str) -> String {
        self.expander.unset.borrow_mut().insert(name.to_owned());
        String::new()
    }

    fn braced(&mut self) -> Result<String, String> {
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: a name is missing in ${…}".to_owned());
        }
        let value = self.value(&name);
        match self.next() {
            Some('}') => Ok(value.unwrap_or_else(|| self.note_unset(&name))),
            Some(':') => {
                let Some(operator) = self.next() else {
                    return Err(
                        "unexpected end of statement while looking for matching }".to_owned()
                    );
                };
                let filled = value.filter(|value| !value.is_empty());
                self.conditional(operator, &name, filled)
            }
            Some(operator @ ('-' | '+' | '?')) => self.conditional(operator, &name, value),
            Some(operator @ ('#' | '%')) => self.trim(operator, &name, value),
            Some('/') => self.replace(&name, value),
            Some(_) => Err(format!("unsupported modifier in substitution of {name}")),
            None => Err("unexpected end of statement while looking for matching }".to_owned()),
        }
    }

    fn conditional(
        &mut self,
        operator: char,
        name: &str,
        value: Option<String>,
    ) -> Result<String, String> {
        let word = self.until(Some('}'), Quotes::Remove)?;
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', Some(value)) => Ok(value),
            ('?', None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            ('?', None) => Err(format!("{name}: {word}")),
            _ => Err(format!(
                "unsupported modifier (:{operator}) in substitution of {name}"
            )),
        }
    }

    fn trim(
        &mut self,
        operator: char,
        name: &str,
        value: Option<String>,
    ) -> Result<String, String> {
        let longest = self.peek() == Some(operator);
        self.at += usize::from(longest);
        let pattern: Vec<char> = self.until(Some('}'), Quotes::Remove)?.chars().collect();
        let value: Vec<char> = value
            .unwrap_or_else(|| self.note_unset(name))
            .chars()
            .collect();
        let cuts: Vec<usize> = (0..=value.len())
            .filter(|cut| match operator {
                '#' => glob(&pattern, &value[..*cut]),
                _ => glob(&pattern, &value[*cut..]),
            })
            .collect();
        let cut = if (operator == '#') == longest {
            cuts.last()
        } else {
            cuts.first()
        };
        Ok(match (cut, operator) {
            (Some(cut), '#') => value[*cut..].iter().collect(),
            (Some(cut), _) => value[..*cut].iter().collect(),
            (None, _) => value.into_iter().collect(),
        })
    }

    fn replace(&mut self, name: &str, value: Option<String>) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let pattern: Vec<char> = self.until(Some('/'), Quotes::Remove)?.chars().collect();
        let with = self.until(Some('}'), Quotes::Remove)?;
        let value: Vec<char> = value
            .unwrap_or_else(|| self.note_unset(name))
            .chars()
            .collect();
        let mut out = String::new();
        let (mut at, mut done) = (0, false);
        while at < value.len() {
            let end = (at + 1..=value.len())
                .rev()
                .find(|end| glob(&pattern, &value[at..*end]));
            match end.filter(|_| !done) {
                Some(end) => {
                    out.push_str(&with);
                    at = end;
                    done = !all;
                }
                None => {
                    out.push(value[at]);
                    at += 1;
                }
            }
        }
        Ok(out)
    }
}

/// `*`, `?` and escapes, over the whole text.
fn glob(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => {
            glob(rest, text)
                || text
                    .split_first()
                    .is_some_and(|(_, tail)| glob(pattern, tail))
        }
        (Some(('?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some(('\\', rest)), Some((c, tail))) if rest.first() == Some(c) => glob(&rest[1..], tail),
        (Some((p, rest)), Some((c, tail))) => p == c && glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("x", "1"), ("e", ""), ("p", "f.tar.gz"), ("r", "abcabc")];
        known
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn words_as_the_shell_lexer_reads_them() {
        let cases = [
            ("$x", "1"),
            ("${x}y", "1y"),
            ("$xy", ""),
            ("'$x'", "$x"),
            (r"\$x", "$x"),
            (r#""$x z""#, "1 z"),
            (r#""\$x""#, "$x"),
            ("${u:-d}${e:-d}${e-d}", "dd"),
            ("${u:+a}${e:+a}${e+a}${x:+a}", "aa"),
            ("${e?msg}", ""),
            ("${u:-${w:-$x}}", "1"),
            ("${p%.*} ${p%%.*} ${p#*.} ${p##*.}", "f.tar f tar.gz gz"),
            (
                "${r#??} ${r%?} ${r/b?/X} ${r//b?/X}",
                "cabc abcab aXabc aXaX",
            ),
            ("a$", "a$"),
        ];
        for (text, want) in cases {
            assert_eq!(
                Expander::new('\\', &lookup).word(text).as_deref(),
                Ok(want),
                "{text}"
            );
        }
        for bad in [
            "${x",
            "${}",
            "\"abc",
            "'abc",
            "${e:?is empty}",
            "${u?}",
            "${x!}",
        ] {
            assert!(Expander::new('\\', &lookup).word(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[${}:\-+?#%/*a-z"'\\ ]{0,40}"#) {
            let expander = Expander::new('\\', &lookup);
            _ = expander.word(&text);
            _ = expander.text(&text);
        }
    }
}
