//! The patterns of `${name#pattern}` and its kin: `*`, `?` and escapes, matched in time linear in
//! the text. Neither wildcard matches a line's end, as in Go's regular expressions.

use crate::limits::{MAX_EXPANDED, MAX_PATTERN, MAX_PATTERN_WORK};

/// How much matching a word has cost.
#[derive(Debug, Default)]
pub(super) struct Work(usize);

impl Work {
    fn add(&mut self, steps: usize) -> Result<(), String> {
        self.0 = self.0.saturating_add(steps);
        match self.0 > MAX_PATTERN_WORK {
            true => Err("its patterns take too long to match".to_owned()),
            false => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    /// `*`
    Many,
    /// `?`
    One,
    Char(char),
}

#[derive(Debug)]
pub(super) struct Pattern(Vec<Element>);

/// Where a match may end, counted in characters from where it begins.
#[derive(Debug, Default)]
struct Ends {
    first: Option<usize>,
    last: Option<usize>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("it is longer than {MAX_PATTERN} bytes"));
        }
        let mut elements = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            elements.push(match c {
                '*' => Element::Many,
                '?' => Element::One,
                // The escape of what would end the pattern isn't part of it.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Element::Char(c),
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(format!("invalid escape '\\{shown}'"));
                    }
                },
                c => Element::Char(c),
            });
        }
        Ok(Self(elements))
    }

    pub(super) fn without_prefix(
        &self,
        value: &str,
        longest: bool,
        work: &mut Work,
    ) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let ends = ends(&self.0, &chars, work)?;
        let end = if longest { ends.last } else { ends.first };
        Ok(chars[end.unwrap_or(0)..].iter().collect())
    }

    pub(super) fn without_suffix(
        &self,
        value: &str,
        longest: bool,
        work: &mut Work,
    ) -> Result<String, String> {
        let chars: Vec<char> = value.chars().rev().collect();
        let backwards: Vec<Element> = self.0.iter().rev().copied().collect();
        let ends = ends(&backwards, &chars, work)?;
        let end = if longest { ends.last } else { ends.first };
        Ok(chars[end.unwrap_or(0)..].iter().rev().collect())
    }

    /// The first match, or all that don't overlap, replaced; each as long as can be.
    pub(super) fn replace(
        &self,
        value: &str,
        with: &str,
        all: bool,
        work: &mut Work,
    ) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let starts = self.starts(&chars, work)?;
        let mut out = String::new();
        let (mut at, mut blocked, mut done) = (0, None, false);
        while at <= chars.len() {
            if out.len() > MAX_EXPANDED {
                return Err(format!("it becomes longer than {MAX_EXPANDED} bytes"));
            }
            let wanted = starts[at] && !done;
            let length = match wanted {
                true => ends(&self.0, &chars[at..], work)?.last,
                false => None,
            };
            // An empty match right behind another one is none.
            let length = length.filter(|length| *length > 0 || blocked != Some(at));
            match length {
                Some(length) => {
                    let matched = &chars[at..at + length];
                    out.push_str(&if all {
                        filled(with, matched)
                    } else {
                        with.to_owned()
                    });
                    done = !all;
                    blocked = Some(at + length);
                    at += length;
                    if length == 0 {
                        out.extend(chars.get(at));
                        at += 1;
                    }
                }
                None => {
                    out.extend(chars.get(at));
                    at += 1;
                }
            }
        }
        Ok(out)
    }

    /// At which characters a match begins.
    fn starts(&self, text: &[char], work: &mut Work) -> Result<Vec<bool>, String> {
        let backwards: Vec<Element> = self.0.iter().rev().copied().collect();
        let mut states = States::new(&backwards);
        let mut starts = vec![false; text.len() + 1];
        for at in (0..=text.len()).rev() {
            // A match may end anywhere.
            states.enter();
            starts[at] = states.is_match();
            if at > 0 {
                work.add(states.active.len() + 1)?;
                states.step(text[at - 1]);
            }
        }
        Ok(starts)
    }
}

/// Where matches that begin at the text's start end.
fn ends(pattern: &[Element], text: &[char], work: &mut Work) -> Result<Ends, String> {
    let mut states = States::new(pattern);
    let mut ends = Ends::default();
    states.enter();
    for at in 0..=text.len() {
        if states.is_match() {
            ends.first = ends.first.or(Some(at));
            ends.last = Some(at);
        }
        let Some(c) = text.get(at).filter(|_| !states.active.is_empty()) else {
            break;
        };
        work.add(states.active.len() + 1)?;
        states.step(*c);
    }
    Ok(ends)
}

/// The positions in a pattern that a text may have led to.
struct States<'a> {
    pattern: &'a [Element],
    active: Vec<usize>,
    is_active: Vec<bool>,
}

impl<'a> States<'a> {
    fn new(pattern: &'a [Element]) -> Self {
        Self {
            pattern,
            active: Vec::new(),
            is_active: vec![false; pattern.len() + 1],
        }
    }

    fn enter(&mut self) {
        self.add(0);
    }

    /// Adds a position, and those behind `*` that takes nothing.
    fn add(&mut self, mut position: usize) {
        loop {
            if self.is_active[position] {
                return;
            }
            self.is_active[position] = true;
            self.active.push(position);
            if self.pattern.get(position) != Some(&Element::Many) {
                return;
            }
            position += 1;
        }
    }

    fn is_match(&self) -> bool {
        self.is_active[self.pattern.len()]
    }

    fn step(&mut self, c: char) {
        let before = std::mem::take(&mut self.active);
        for position in &before {
            self.is_active[*position] = false;
        }
        for position in before {
            match self.pattern.get(position) {
                Some(Element::Many) if c != '\n' => self.add(position),
                Some(Element::One) if c != '\n' => self.add(position + 1),
                Some(Element::Char(wanted)) if *wanted == c => self.add(position + 1),
                _ => {}
            }
        }
    }
}

/// A replacement as Go's `Regexp.ReplaceAllString` fills it: `$0` is the match, other names are
/// nothing, `$$` is a dollar sign.
fn filled(with: &str, matched: &[char]) -> String {
    let mut out = String::new();
    let mut rest = with;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let inside = after
            .strip_prefix('{')
            .and_then(|text| text.split_once('}'))
            .filter(|(name, _)| !name.is_empty() && name.chars().all(is_name));
        let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let (name, tail) = match inside {
            Some(found) => found,
            None => after.split_at(end),
        };
        rest = match (after.strip_prefix('$'), name) {
            (Some(tail), _) => {
                out.push('$');
                tail
            }
            (None, "") => {
                out.push('$');
                after
            }
            (None, name) => {
                if name.bytes().all(|b| b == b'0') {
                    out.extend(matched);
                }
                tail
            }
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replacements_are_filled_as_go_does() {
        let cases = [
            ("x", "x"),
            ("$0$0", "mm"),
            ("${0}a", "ma"),
            ("$0a", ""),
            ("$$0", "$0"),
            ("$1 ${name}b", " b"),
            ("a$", "a$"),
            ("$-", "$-"),
        ];
        for (with, want) in cases {
            assert_eq!(filled(with, &['m']), want, "{with}");
        }
    }

    #[test]
    fn wildcards_stay_in_their_line() {
        let trim = |pattern: &str, value: &str| {
            let pattern = Pattern::parse(pattern).unwrap();
            pattern.without_prefix(value, true, &mut Work::default())
        };
        assert_eq!(trim("*b", "ab\nb").as_deref(), Ok("\nb"));
        assert_eq!(trim("a?b", "a\nb").as_deref(), Ok("a\nb"));
        assert_eq!(trim("a\nb", "a\nb").as_deref(), Ok(""));
    }

    /// What a match is, by definition.
    fn fits(pattern: &[Element], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((Element::Many, rest)) => (0..=text.len())
                .take_while(|taken| !text[..*taken].contains(&'\n'))
                .any(|taken| fits(rest, &text[taken..])),
            Some((Element::One, rest)) => text
                .split_first()
                .is_some_and(|(c, tail)| *c != '\n' && fits(rest, tail)),
            Some((Element::Char(c), rest)) => text
                .split_first()
                .is_some_and(|(first, tail)| first == c && fits(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn ends_are_those_of_the_definition(pattern in "[ab*?\n]{0,6}", text in "[ab\n]{0,8}") {
            let pattern = Pattern::parse(&pattern).unwrap();
            let chars: Vec<char> = text.chars().collect();
            let found = ends(&pattern.0, &chars, &mut Work::default()).unwrap();
            let all: Vec<usize> = (0..=chars.len()).filter(|end| fits(&pattern.0, &chars[..*end])).collect();
            prop_assert_eq!(found.first, all.first().copied());
            prop_assert_eq!(found.last, all.last().copied());
            let starts = pattern.starts(&chars, &mut Work::default()).unwrap();
            for (start, is_start) in starts.iter().enumerate() {
                let any = (start..=chars.len()).any(|end| fits(&pattern.0, &chars[start..end]));
                prop_assert_eq!(*is_start, any);
            }
        }
    }
}
