//! Lists of patterns as in `.dockerignore`, with the meaning that moby's `patternmatcher` gives them.
//!
//! A pattern is compared with a whole path. `*`, `?` and classes are those of `filepath.Match`; `**`
//! takes any number of whole names, none included, with the slash behind them. At a pattern's end
//! `**` takes all that follows, so that `a**` is whatever begins with `a`; at the beginning of a
//! pattern that has no other wildcard, so that `**.md` is whatever ends in `.md`.

use super::BadPattern;
use super::glob::{Char, Class, check, first_char};

/// A list of patterns as in `.dockerignore`: the last one that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    form: Form,
}

impl Matcher {
    /// A matcher for cleaned patterns (no leading, doubled or trailing slashes).
    ///
    /// # Errors
    /// When one can't be read.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, BadPattern> {
        let read = |text: &T| -> Result<Pattern, BadPattern> {
            let text = text.as_ref();
            let (negated, path) = match text.strip_prefix('!') {
                Some(path) => (true, path),
                None => (false, text),
            };
            if path.is_empty() {
                return Err(BadPattern(text.to_owned()));
            }
            check(path).map_err(|_| BadPattern(text.to_owned()))?;
            let form = Form::of(path);
            Ok(Pattern { negated, form })
        };
        Ok(Self {
            patterns: patterns.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path (components from the root, without a leading slash) is excluded: itself or
    /// by a directory above it.
    #[must_use]
    pub fn excludes(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = ends.map(|(end, _)| end).chain([path.len()]);
        let mut above = vec![false; self.patterns.len()];
        let mut excluded = false;
        for end in ends {
            excluded = self.one_level(&path[..end], &mut above);
        }
        excluded
    }

    /// Whether a path is excluded whose directory was matched by the patterns in `above`; notes there
    /// which ones match the path. A pattern that can't change the outcome is not asked, and counts
    /// as one that doesn't match: so does the walk of BuildKit's contexts.
    fn one_level(&self, path: &[u8], above: &mut [bool]) -> bool {
        let mut excluded = false;
        for (pattern, held) in self.patterns.iter().zip(above) {
            *held = *held || (pattern.negated == excluded && pattern.form.matches(path));
            if *held {
                excluded = !pattern.negated;
            }
        }
        excluded
    }

    /// Whether something below an excluded directory may be brought back by a `!` pattern.
    #[must_use]
    pub fn may_include_below(&self, directory: &[u8]) -> bool {
        let mut negated = self.patterns.iter().filter(|pattern| pattern.negated);
        negated.any(|pattern| pattern.form.may_match_below(directory))
    }
}

/// Whether a pattern that may hold `**` matches a whole path; `false` for one that can't be read.
#[must_use]
pub fn matches_deep(pattern: &str, path: &[u8]) -> bool {
    check(pattern).is_ok() && Form::of(pattern).matches(path)
}

/// A pattern that was read. Most need no wildcards inside.
#[derive(Clone, Debug)]
enum Form {
    Exact(Vec<u8>),
    /// `TEXT**`
    Prefix(Vec<u8>),
    /// `**TEXT`
    Suffix(Vec<u8>),
    Wild(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Literal(Char),
    /// `?`
    One,
    /// `*`
    Star,
    Class(Class),
    /// `**` inside: any number of whole names, each with its slash.
    Names,
    /// `**` at the end.
    Rest,
}

impl Form {
    /// Of a pattern that can be read.
    fn of(pattern: &str) -> Self {
        let is_plain = |text: &str| !text.contains(['*', '?', '[', '\\']);
        if is_plain(pattern) {
            return Self::Exact(pattern.into());
        }
        if let Some(suffix) = pattern.strip_prefix("**").filter(|text| is_plain(text)) {
            return Self::Suffix(suffix.into());
        }
        if let Some(prefix) = pattern.strip_suffix("**").filter(|text| is_plain(text)) {
            return Self::Prefix(prefix.into());
        }
        Self::Wild(tokens(pattern))
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text),
            Self::Suffix(text) => {
                path.ends_with(text) || text.strip_prefix(b"/").is_some_and(|name| name == path)
            }
            Self::Wild(tokens) => {
                let mut states = States::new(tokens);
                states.run(path);
                states.is_reached(tokens.len())
            }
        }
    }

    /// Whether there may be a path below a directory that matches.
    fn may_match_below(&self, directory: &[u8]) -> bool {
        let below = [directory, b"/"].concat();
        match self {
            Self::Exact(text) => text.starts_with(&below),
            Self::Prefix(text) => text.starts_with(&below) || below.starts_with(text),
            Self::Suffix(_) => true,
            Self::Wild(tokens) => {
                let mut states = States::new(tokens);
                states.run(&below);
                states.is_any_reached()
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let (token, left) = match first {
            '*' => stars(after),
            '?' => (Token::One, after),
            '[' => match Class::parse(after) {
                Some((class, after)) => (Token::Class(class), after),
                None => (Token::Literal(Char::of('[')), after),
            },
            '\\' => match after.chars().next() {
                Some(c) => (Token::Literal(Char::of(c)), &after[c.len_utf8()..]),
                None => (Token::Literal(Char::of('\\')), after),
            },
            literal => (Token::Literal(Char::of(literal)), after),
        };
        tokens.push(token);
        rest = left;
    }
    tokens
}

/// What a `*` begins, and what follows it.
fn stars(after: &str) -> (Token, &str) {
    let Some(deep) = after.strip_prefix('*') else {
        return (Token::Star, after);
    };
    match deep.strip_prefix('/').unwrap_or(deep) {
        "" => (Token::Rest, ""),
        rest => (Token::Names, rest),
    }
}

/// How far a path has come in a pattern: all places at once, so that no pattern makes this slow.
struct States<'a> {
    tokens: &'a [Token],
    reached: Vec<bool>,
    next: Vec<bool>,
}

impl<'a> States<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        let mut states = Self {
            tokens,
            reached: vec![false; tokens.len() + 1],
            next: vec![false; tokens.len() + 1],
        };
        states.enter(0);
        std::mem::swap(&mut states.reached, &mut states.next);
        states
    }

    fn run(&mut self, mut path: &[u8]) {
        while let Some((c, rest)) = first_char(path) {
            path = rest;
            self.next.fill(false);
            for at in 0..self.tokens.len() {
                if self.reached[at] {
                    self.step(at, c);
                }
            }
            std::mem::swap(&mut self.reached, &mut self.next);
        }
    }

    fn step(&mut self, at: usize, c: Char) {
        match &self.tokens[at] {
            Token::Literal(literal) if *literal == c => self.enter(at + 1),
            Token::One if c != Char::SLASH => self.enter(at + 1),
            Token::Class(class) if c != Char::SLASH && class.contains(c) => self.enter(at + 1),
            Token::Star if c != Char::SLASH => self.enter(at),
            Token::Rest => self.enter(at),
            Token::Names => {
                // In the middle of a name, what follows the names can't begin.
                self.next[at] = true;
                if c == Char::SLASH {
                    self.enter(at + 1);
                }
            }
            _ => {}
        }
    }

    /// A token that may take nothing lets the next one begin as well.
    fn enter(&mut self, at: usize) {
        let may_be_nothing =
            |token: Option<&Token>| matches!(token, Some(Token::Star | Token::Names | Token::Rest));
        let mut at = at;
        self.next[at] = true;
        while may_be_nothing(self.tokens.get(at)) {
            at += 1;
            self.next[at] = true;
        }
    }

    fn is_reached(&self, place: usize) -> bool {
        self.reached[place]
    }

    fn is_any_reached(&self) -> bool {
        self.reached.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ignore_lists() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["a"], "a", true),
            (&["a"], "d/a", false),
            (&["a"], "a/b", true),
            (&["*/x"], "d/x", true),
            (&["*/x"], "d/e/x", false),
            (&["**/x"], "x", true),
            (&["**/x"], "d/e/x", true),
            (&["**/x"], "d/ex", false),
            (&["d/**"], "d", false),
            (&["d/**"], "d/e/f", true),
            (&["!keep.md", "*.md"], "keep.md", true),
            (&["*", "!d/k"], "d/k", false),
            (&["*", "!d/k"], "d/l", true),
            (&["**/*.o", "!**/keep.o"], "d/keep.o", false),
            (&["*", "!a"], ".hidden", true),
            (&["**"], "a/b", true),
            (&["**.md"], "README.md", true),
            (&["**.md"], "d/e/x.md", true),
            (&["**foo"], "tmpfoo/x/y", true),
            (&["**foo*"], "tmpfoo", false),
            (&["**foo*"], "d/foot", true),
            (&["foo**"], "foobar/z", true),
            (&["foo**"], "d/foo", false),
            (&["s**/b.js"], "src/l/b.js", true),
            (&["s**/b.js"], "sb.js", true),
            (&["s**/b.js"], "src/xb.js", false),
            (&["a/**/b"], "a/b", true),
            (&["a/**/b"], "a/x/y/b", true),
            (&["a/**/b"], "a/xb", false),
            (&["a?/**"], "ab/c", true),
            (&["a?/**"], "ab", false),
            (&["[^a]/x"], "é/x", true),
            (&["d", "!d/x", "d"], "d/x", false),
            (&["d", "!d/x", "d/*"], "d/x", true),
            (&["*", "!d", "d/e"], "d/e/f", true),
            (&["**/x"], "a\nb/x", true),
        ];
        for (patterns, path, want) in cases {
            let matcher = Matcher::new(patterns).unwrap();
            assert_eq!(
                matcher.excludes(path.as_bytes()),
                *want,
                "{patterns:?} {path}"
            );
        }
        assert!(Matcher::new(&["["]).is_err());
        assert!(Matcher::new(&["!"]).is_err());
    }

    #[test]
    fn directories_that_may_hold_exceptions() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["*", "!d/k"], "d", true),
            (&["*", "!d/k"], "e", false),
            (&["*", "!d/k"], "d/k", false),
            (&["*", "!d/**"], "d/e", true),
            (&["*", "!**.md"], "e", true),
            (&["*", "!d?/*.md"], "dx", true),
            (&["*", "!d?/*.md"], "ex", false),
            (&["*", "!d?/*.md"], "dx/e", false),
        ];
        for (patterns, directory, want) in cases {
            let matcher = Matcher::new(patterns).unwrap();
            let found = matcher.may_include_below(directory.as_bytes());
            assert_eq!(found, *want, "{patterns:?} {directory}");
        }
    }

    /// The pattern as moby's `patternmatcher` makes a regular expression of it.
    fn as_regex(pattern: &str) -> regex::Regex {
        let mut text = "(?s)^".to_owned();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c == '*' && rest.starts_with('*') {
                rest = rest[1..].strip_prefix('/').unwrap_or(&rest[1..]);
                text += if rest.is_empty() { ".*" } else { "(.*/)?" };
            } else if c == '*' {
                text += "[^/]*";
            } else {
                text += &regex::escape(&c.to_string());
            }
        }
        regex::Regex::new(&(text + "$")).unwrap()
    }

    fn cases() -> u32 {
        let given = std::env::var("PROPTEST_CASES").ok();
        given.and_then(|text| text.parse().ok()).unwrap_or(2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_global_rejects: 1 << 20, ..ProptestConfig::default() })]

        #[test]
        fn deep_wildcards_mean_what_is_said(pattern in "[ab](/?(a|b|[*]|[*][*])){0,6}", text in "[ab](/?[ab]){0,6}") {
            prop_assume!(!pattern.contains("***"));
            prop_assert_eq!(matches_deep(&pattern, text.as_bytes()), as_regex(&pattern).is_match(&text));
        }

        #[test]
        fn directories_are_looked_into_when_something_in_them_matches(pattern in "(a|b|[*]|[*][*])(/?(a|b|[*]|[*][*])){0,5}", text in "[ab](/?[ab]){0,6}") {
            prop_assume!(matches_deep(&pattern, text.as_bytes()));
            let matcher = Matcher::new(&[format!("!{pattern}")]).unwrap();
            for (at, _) in text.match_indices('/') {
                prop_assert!(matcher.may_include_below(&text.as_bytes()[..at]));
            }
        }
    }

    #[test]
    fn no_pattern_is_slow_or_deep() {
        let deep = vec!["a"; 300].join("/");
        let pattern = "**/a/".repeat(60) + "b";
        assert!(!matches_deep(&pattern, deep.as_bytes()));
    }
}
