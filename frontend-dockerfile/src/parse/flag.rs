//! `--name=value` before an instruction's arguments.

use crate::error::Wrong;
use crate::suggest::did_you_mean;

/// Takes the flags off the front of an instruction's rest; `--` ends them. Quotes group and are
/// taken away, an escape takes the next character as it is; variables stay for later.
pub(crate) fn take(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (word, after) = word(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// The first word of a text, and what is behind it.
fn word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if quote.is_none() && c.is_whitespace() => return (word, &text[at..]),
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            c => word.push(c),
        }
    }
    (word, "")
}

/// The flags of one instruction, taken out one by one.
pub(crate) struct Flags(Vec<(String, Option<String>)>);

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `true`, `false`, or nothing for `true`.
    Truth,
    /// A text.
    Text,
    /// A text, and the flag may be given again.
    Texts,
}

impl Flags {
    /// Checks that each flag is known and has the value it needs.
    pub(crate) fn new(given: &[String], known: &[(&str, Takes)]) -> Result<Self, Wrong> {
        let mut flags: Vec<(String, Option<String>)> = Vec::new();
        for text in given {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            let wrong = |message: String| Wrong::word(message, name);
            let short = name.trim_start_matches("--");
            let Some((_, takes)) = known.iter().find(|(known, _)| *known == short) else {
                let hint = did_you_mean(short, known.iter().map(|(known, _)| *known));
                return Err(wrong(format!("unknown flag: {name}{hint}")));
            };
            if *takes != Takes::Texts && flags.iter().any(|(known, _)| known == short) {
                return Err(wrong(format!("duplicate flag specified: {name}")));
            }
            check(name, value.as_deref(), *takes).map_err(wrong)?;
            flags.push((short.to_owned(), value));
        }
        Ok(Self(flags))
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let flag = self.0.iter().find(|(known, _)| known == name);
        flag.and_then(|(_, value)| value.clone())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.filter_map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn truth(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        let is_false = |text: &String| text.eq_ignore_ascii_case("false");
        Some(!value.as_ref().is_some_and(is_false))
    }
}

fn check(name: &str, value: Option<&str>, takes: Takes) -> Result<(), String> {
    match (takes, value) {
        (Takes::Truth, Some("")) | (Takes::Text | Takes::Texts, None) => {
            Err(format!("missing a value on flag: {name}"))
        }
        (Takes::Truth, Some(text))
            if !["true", "false"].contains(&text.to_ascii_lowercase().as_str()) =>
        {
            Err(format!(
                "expecting boolean value for flag {name}, not: {text}"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_off_the_front() {
        let cases: [(&str, &[&str], &str); 6] = [
            ("--a=b c", &["--a=b"], "c"),
            ("--a='b c' --d \"e\"", &["--a=b c", "--d"], "\"e\""),
            (r"--a=b\ c\*  d", &["--a=b c*"], "d"),
            ("-- --a", &[], "--a"),
            ("-a", &[], "-a"),
            ("--a", &["--a"], ""),
        ];
        for (text, flags, rest) in cases {
            let (found, left) = take(text, '\\');
            assert_eq!(
                (&found[..], left),
                (
                    &flags.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                    rest
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn truths_are_words() {
        let known = [("link", Takes::Truth)];
        let truth = |text: &str| {
            let flags = Flags::new(&[text.to_owned()], &known);
            flags
                .map(|flags| flags.truth("link"))
                .map_err(|wrong| wrong.message)
        };
        assert_eq!(truth("--link"), Ok(Some(true)));
        assert_eq!(truth("--link=FALSE"), Ok(Some(false)));
        assert!(truth("--link=1").is_err() && truth("--link=").is_err());
    }
}
