//! Patterns that select paths: `.dockerignore` lists (the semantics of moby's `patternmatcher`)
//! and COPY wildcards (Go's `filepath.Match`).

/// A pattern that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern '{0}': a bracket or an escape is not finished")]
pub struct BadPattern(pub String);

/// Whether a text has wildcards.
#[must_use]
pub fn has_wildcard(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// `filepath.Match`: `*` and `?` don't cross `/`, `[…]` are classes, `\` escapes.
///
/// # Errors
/// When the pattern can't be read.
pub fn matches(pattern: &str, path: &[u8]) -> Result<bool, BadPattern> {
    glob(pattern.as_bytes(), path).ok_or_else(|| BadPattern(pattern.to_owned()))
}

/// `None`: the pattern can't be read.
fn glob(pattern: &[u8], text: &[u8]) -> Option<bool> {
    check(pattern)?;
    Some(fits(pattern, text))
}

/// As `*` doesn't cross `/`, only the last one met can take more: no pattern makes this slow.
fn fits(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut last = None;
    loop {
        if let Some((b'*', rest)) = pattern.split_first() {
            last = Some((rest, text));
            pattern = rest;
        } else if let Some(rest) = one(pattern, text) {
            (pattern, text) = rest;
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else {
            let Some((rest, from)) = last else {
                return false;
            };
            let Some((_, tail)) = from.split_first().filter(|(c, _)| **c != b'/') else {
                return false;
            };
            last = Some((rest, tail));
            (pattern, text) = (rest, tail);
        }
    }
}

/// What is left when the pattern's first element takes the text's first character.
fn one<'p, 't>(pattern: &'p [u8], text: &'t [u8]) -> Option<(&'p [u8], &'t [u8])> {
    let (&first, rest) = pattern.split_first()?;
    let (&c, tail) = text.split_first()?;
    match first {
        b'?' => (c != b'/').then(|| (rest, skip_char(c, tail))),
        b'[' => {
            let (class, rest) = Class::parse(rest)?;
            (c != b'/' && class.contains(c)).then_some((rest, tail))
        }
        b'\\' => {
            let (&escaped, rest) = rest.split_first()?;
            (escaped == c).then_some((rest, tail))
        }
        literal => (literal == c).then_some((rest, tail)),
    }
}

/// A `?` takes a whole character: the rest of a UTF-8 sequence goes with its first byte.
fn skip_char(first: u8, tail: &[u8]) -> &[u8] {
    let more = match first {
        0xc0..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf7 => 3,
        _ => 0,
    };
    &tail[more.min(tail.len())..]
}

/// No match, but the rest of the pattern must still be readable.
fn check(mut pattern: &[u8]) -> Option<bool> {
    while let Some((&first, rest)) = pattern.split_first() {
        pattern = match first {
            b'[' => Class::parse(rest)?.1,
            b'\\' => rest.get(1..)?,
            _ => rest,
        };
    }
    Some(false)
}

struct Class {
    negated: bool,
    ranges: Vec<(u8, u8)>,
}

impl Class {
    /// The class behind a `[`, and what follows it.
    fn parse(pattern: &[u8]) -> Option<(Self, &[u8])> {
        let (negated, mut rest) = match pattern.split_first()? {
            (b'^', rest) => (true, rest),
            _ => (false, pattern),
        };
        let mut ranges = Vec::new();
        loop {
            if rest.first() == Some(&b']') && !ranges.is_empty() {
                return Some((Self { negated, ranges }, &rest[1..]));
            }
            let (low, after) = Self::member(rest)?;
            rest = after;
            let mut high = low;
            if rest.first() == Some(&b'-') {
                (high, rest) = Self::member(&rest[1..])?;
            }
            ranges.push((low, high));
        }
    }

    fn member(pattern: &[u8]) -> Option<(u8, &[u8])> {
        match pattern.split_first()? {
            (b'\\', rest) => rest.split_first().map(|(c, rest)| (*c, rest)),
            (b'-' | b']', _) => None,
            (c, rest) => Some((*c, rest)),
        }
    }

    fn contains(&self, c: u8) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&c))
            != self.negated
    }
}

/// A list of patterns as in `.dockerignore`: the last one that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    parts: Vec<String>,
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
            if path.is_empty() || check(path.as_bytes()).is_none() {
                return Err(BadPattern(text.to_owned()));
            }
            Ok(Pattern {
                negated,
                parts: path.split('/').map(str::to_owned).collect(),
            })
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
    /// by a folder above it.
    #[must_use]
    pub fn excludes(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        let mut excluded = false;
        for pattern in &self.patterns {
            if pattern.negated == excluded && pattern.matches_or_holds(&parts) {
                excluded = !pattern.negated;
            }
        }
        excluded
    }

    /// Whether something below an excluded folder may be brought back by a `!` pattern.
    #[must_use]
    pub fn may_include_below(&self, folder: &[u8]) -> bool {
        let parts: Vec<&[u8]> = folder.split(|&b| b == b'/').collect();
        self.patterns
            .iter()
            .any(|pattern| pattern.negated && pattern.may_match_below(&parts))
    }
}

impl Pattern {
    fn matches_or_holds(&self, path: &[&[u8]]) -> bool {
        (1..=path.len()).any(|count| match_parts(&self.parts, &path[..count]))
    }

    fn may_match_below(&self, folder: &[&[u8]]) -> bool {
        for (at, name) in folder.iter().enumerate() {
            match self.parts.get(at) {
                Some(part) if part == "**" => return true,
                Some(part) if glob(part.as_bytes(), name) == Some(true) => {}
                Some(_) => return false,
                None => return true,
            }
        }
        true
    }
}

/// `**` stands for any number of components; as the last part, for at least one. Only the last one
/// met can take more.
fn match_parts(parts: &[String], path: &[&[u8]]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut last = None;
    while at < path.len() {
        match parts.get(part) {
            Some(deep) if deep == "**" => {
                part += 1;
                if part == parts.len() {
                    return true;
                }
                last = Some((part, at));
            }
            Some(name) if glob(name.as_bytes(), path[at]) == Some(true) => {
                part += 1;
                at += 1;
            }
            _ => {
                let Some((from, taken)) = last else {
                    return false;
                };
                last = Some((from, taken + 1));
                (part, at) = (from, taken + 1);
            }
        }
    }
    part == parts.len()
}

/// Whether a pattern that may hold `**` matches a whole path.
#[must_use]
pub fn matches_deep(pattern: &str, path: &[u8]) -> bool {
    let parts: Vec<String> = pattern.split('/').map(str::to_owned).collect();
    let path: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    match_parts(&parts, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_as_in_filepath_match() {
        let cases = [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("d/*.txt", "d/a.txt", true),
            ("f?", "f1", true),
            ("f?", "f22", false),
            ("f[0-1]x", "f1x", true),
            ("f[^0]x", "f0x", false),
            ("a[[]0].txt", "a[0].txt", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*", "", true),
            ("?", "é", true),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(
                matches(pattern, path.as_bytes()),
                Ok(want),
                "{pattern} {path}"
            );
        }
        for bad in ["[", "[a", "a[]", r"\", "[-]", "x[^"] {
            assert!(matches(bad, b"zzz").is_err(), "{bad}");
        }
    }

    #[test]
    fn ignore_lists() {
        let cases: [(&[&str], &str, bool); 14] = [
            (&["a"], "a", true),
            (&["a"], "d/a", false),
            (&["a"], "a/b", true),
            (&["*/x"], "d/x", true),
            (&["*/x"], "d/e/x", false),
            (&["**/x"], "x", true),
            (&["**/x"], "d/e/x", true),
            (&["d/**"], "d", false),
            (&["d/**"], "d/e/f", true),
            (&["!keep.md", "*.md"], "keep.md", true),
            (&["*", "!d/k"], "d/k", false),
            (&["*", "!d/k"], "d/l", true),
            (&["**/*.o", "!**/keep.o"], "d/keep.o", false),
            (&["*", "!a"], ".hidden", true),
        ];
        for (patterns, path, want) in cases {
            let matcher = Matcher::new(patterns).unwrap();
            assert_eq!(
                matcher.excludes(path.as_bytes()),
                want,
                "{patterns:?} {path}"
            );
        }
        assert!(Matcher::new(&["["]).is_err());
        let matcher = Matcher::new(&["*", "!d/k"]).unwrap();
        assert!(matcher.may_include_below(b"d"));
        assert!(!matcher.may_include_below(b"e"));
    }

    /// The rules as they are said, which take exponential time.
    mod reference {
        use super::super::{Class, check, skip_char};

        pub(super) fn slow_glob(pattern: &[u8], text: &[u8]) -> Option<bool> {
            let Some((&first, rest)) = pattern.split_first() else {
                return Some(text.is_empty());
            };
            match first {
                b'*' => star(rest, text),
                b'?' => match text.split_first() {
                    Some((&c, tail)) if c != b'/' => slow_glob(rest, skip_char(c, tail)),
                    _ => check(rest),
                },
                b'[' => {
                    let (class, rest) = Class::parse(rest)?;
                    match text.split_first() {
                        Some((&c, tail)) if c != b'/' && class.contains(c) => slow_glob(rest, tail),
                        _ => check(rest),
                    }
                }
                b'\\' => literal(*rest.first()?, &rest[1..], text),
                other => literal(other, rest, text),
            }
        }

        fn star(rest: &[u8], text: &[u8]) -> Option<bool> {
            let end = text.iter().position(|&c| c == b'/').unwrap_or(text.len());
            for taken in 0..=end {
                if slow_glob(rest, &text[taken..])? {
                    return Some(true);
                }
            }
            Some(false)
        }

        fn literal(c: u8, rest: &[u8], text: &[u8]) -> Option<bool> {
            match text.split_first() {
                Some((&first, tail)) if first == c => slow_glob(rest, tail),
                _ => check(rest),
            }
        }

        pub(super) fn slow_parts(parts: &[String], path: &[&[u8]]) -> bool {
            match (parts.split_first(), path.split_first()) {
                (None, None) => true,
                (Some((part, [])), Some(_)) if part == "**" => true,
                (Some((part, rest)), _) if part == "**" && !rest.is_empty() => {
                    slow_parts(rest, path)
                        || path
                            .split_first()
                            .is_some_and(|(_, tail)| slow_parts(parts, tail))
                }
                (Some((part, rest)), Some((name, tail))) => {
                    slow_glob(part.as_bytes(), name) == Some(true) && slow_parts(rest, tail)
                }
                _ => false,
            }
        }
    }

    /// `PROPTEST_CASES` makes this a fuzzer that runs as long as one likes.
    fn cases() -> u32 {
        let given = std::env::var("PROPTEST_CASES").ok();
        given.and_then(|text| text.parse().ok()).unwrap_or(2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wildcards_mean_what_is_said(pattern in "[ab*?/\\[\\]\\\\^é-]{0,9}", text in "[ab/é]{0,9}") {
            let want = reference::slow_glob(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want);
        }

        #[test]
        fn deep_wildcards_mean_what_is_said(pattern in "(a|b|[*]|[*][*])(/(a|b|[*]|[*][*])){0,5}", text in "(a|b)(/(a|b)){0,5}") {
            let parts: Vec<String> = pattern.split('/').map(str::to_owned).collect();
            let path: Vec<&[u8]> = text.as_bytes().split(|&b| b == b'/').collect();
            prop_assert_eq!(match_parts(&parts, &path), reference::slow_parts(&parts, &path));
        }
    }

    #[test]
    fn no_pattern_is_slow_or_deep() {
        let (name, stars) = (vec![b'a'; 255], "*a".repeat(40) + "b");
        assert_eq!(matches(&stars, &name), Ok(false));
        let deep = vec!["a"; 300].join("/");
        let pattern = "**/a/".repeat(60) + "b";
        assert!(!matches_deep(&pattern, deep.as_bytes()));
        assert_eq!(matches(&"a".repeat(5_000_000), b"a"), Ok(false));
    }
}
