//! Wildcards within the names of one path: Go's `filepath.Match`.

use super::BadPattern;

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
    check(pattern)?;
    Ok(fits(pattern, path))
}

/// Whether a pattern can be read to its end.
pub(super) fn check(pattern: &str) -> Result<(), BadPattern> {
    readable(pattern).ok_or_else(|| BadPattern(pattern.to_owned()))
}

fn readable(mut pattern: &str) -> Option<()> {
    let mut chars = pattern.chars();
    while let Some(first) = chars.next() {
        pattern = match first {
            '[' => Class::parse(chars.as_str())?.1,
            '\\' => {
                chars.next()?;
                chars.as_str()
            }
            _ => chars.as_str(),
        };
        chars = pattern.chars();
    }
    Some(())
}

/// As `*` doesn't cross `/`, only the last one met can take more: no pattern makes this slow.
fn fits(mut pattern: &str, mut text: &[u8]) -> bool {
    let mut last = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
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
fn one<'p, 't>(pattern: &'p str, text: &'t [u8]) -> Option<(&'p str, &'t [u8])> {
    let mut rest = pattern.chars();
    let first = rest.next()?;
    let (c, tail) = first_char(text)?;
    match first {
        '?' => (c != Char::SLASH).then_some((rest.as_str(), tail)),
        '[' => {
            let (class, rest) = Class::parse(rest.as_str())?;
            (c != Char::SLASH && class.contains(c)).then_some((rest, tail))
        }
        '\\' => {
            let escaped = rest.next()?;
            (Char::of(escaped) == c).then_some((rest.as_str(), tail))
        }
        literal => (Char::of(literal) == c).then_some((rest.as_str(), tail)),
    }
}

/// A character of a path: a code point, or above those a byte that is no part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Char(u32);

impl Char {
    pub(super) const SLASH: Self = Self('/' as u32);

    pub(super) fn of(c: char) -> Self {
        Self(c.into())
    }
}

/// The first character of a path, which need not be UTF-8, and what follows it.
pub(super) fn first_char(text: &[u8]) -> Option<(Char, &[u8])> {
    let (&first, tail) = text.split_first()?;
    let length = match first {
        0x00..=0x7f => return Some((Char(first.into()), tail)),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let whole = text.get(..length).and_then(|c| std::str::from_utf8(c).ok());
    match whole.and_then(|c| c.chars().next()) {
        Some(c) => Some((Char::of(c), &text[length..])),
        None => Some((Char(0x11_0000 + u32::from(first)), tail)),
    }
}

/// A bracket expression.
#[derive(Clone, Debug)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(Char, Char)>,
}

impl Class {
    /// The class behind a `[`, and what follows it.
    pub(super) fn parse(pattern: &str) -> Option<(Self, &str)> {
        let (negated, mut rest) = match pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let mut ranges = Vec::new();
        loop {
            if let Some(after) = rest.strip_prefix(']').filter(|_| !ranges.is_empty()) {
                return Some((Self { negated, ranges }, after));
            }
            let (low, after) = Self::member(rest)?;
            rest = after;
            let mut high = low;
            if let Some(after) = rest.strip_prefix('-') {
                (high, rest) = Self::member(after)?;
            }
            ranges.push((low, high));
        }
    }

    fn member(pattern: &str) -> Option<(Char, &str)> {
        let mut chars = pattern.chars();
        let member = match chars.next()? {
            '\\' => chars.next()?,
            '-' | ']' => return None,
            c => c,
        };
        Some((Char::of(member), chars.as_str()))
    }

    pub(super) fn contains(&self, c: Char) -> bool {
        let mut ranges = self.ranges.iter();
        ranges.any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
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
            ("[é]", "é", true),
            ("[à-ü]x", "éx", true),
            ("[^é]", "é", false),
            ("[^a]", "é", true),
            ("a*", "a\nb", true),
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
        assert_eq!(matches("a?", b"a\xff"), Ok(true), "a byte that is no UTF-8");
        assert_eq!(matches("a?", b"a\xc3"), Ok(true), "half a character");
    }

    /// The rules as they are said, which take exponential time.
    mod reference {
        use super::super::{Char, Class, first_char};

        pub(super) fn slow_glob(pattern: &str, text: &[u8]) -> bool {
            let mut rest = pattern.chars();
            let Some(first) = rest.next() else {
                return text.is_empty();
            };
            let next = first_char(text);
            match first {
                '*' => star(rest.as_str(), text),
                '?' => {
                    next.is_some_and(|(c, tail)| c != Char::SLASH && slow_glob(rest.as_str(), tail))
                }
                '[' => {
                    let (class, rest) = Class::parse(rest.as_str()).unwrap();
                    next.is_some_and(|(c, tail)| {
                        c != Char::SLASH && class.contains(c) && slow_glob(rest, tail)
                    })
                }
                first => {
                    let wanted = if first == '\\' {
                        rest.next().unwrap()
                    } else {
                        first
                    };
                    next.is_some_and(|(c, tail)| {
                        c == Char::of(wanted) && slow_glob(rest.as_str(), tail)
                    })
                }
            }
        }

        fn star(rest: &str, text: &[u8]) -> bool {
            let end = text.iter().position(|&c| c == b'/').unwrap_or(text.len());
            (0..=end).any(|taken| slow_glob(rest, &text[taken..]))
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
            let found = matches(&pattern, text.as_bytes()).ok();
            let want = check(&pattern).ok().map(|()| reference::slow_glob(&pattern, text.as_bytes()));
            prop_assert_eq!(found, want);
        }
    }

    #[test]
    fn no_pattern_is_slow_or_deep() {
        let (name, stars) = (vec![b'a'; 255], "*a".repeat(40) + "b");
        assert_eq!(matches(&stars, &name), Ok(false));
        assert_eq!(matches(&"a".repeat(5_000_000), b"a"), Ok(false));
    }
}
