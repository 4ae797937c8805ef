//! `--name=value` before an instruction's arguments.

use crate::error::Wrong;
use crate::suggest::did_you_mean;

/// A flag as written.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// Takes the flags off the front of an instruction's rest; `--` ends them.
pub(crate) fn take(mut rest: &str, escape: char) -> (Vec<Flag>, &str) {
    let mut flags = Vec::new();
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let end = word_end(rest, escape);
        let (word, after) = rest.split_at(end);
        if word == "--" {
            return (flags, after.trim_start());
        }
        flags.push(flag(&unquote(&word[2..], escape)));
        rest = after;
    }
}

fn flag(text: &str) -> Flag {
    match text.split_once('=') {
        Some((name, value)) => Flag {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        },
        None => Flag {
            name: text.to_owned(),
            value: None,
        },
    }
}

fn word_end(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut skip = false;
    for (at, c) in text.char_indices() {
        if skip {
            skip = false;
        } else if c == escape {
            skip = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && ['"', '\''].contains(&c) {
            quote = Some(c);
        } else if quote.is_none() && c.is_whitespace() {
            return at;
        }
    }
    text.len()
}

/// Flags lose their quotes, but keep variables for later.
fn unquote(text: &str, escape: char) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if c == escape
                && chars
                    .peek()
                    .is_some_and(|next| ['"', '\'', escape].contains(next)) =>
            {
                out.extend(chars.next());
            }
            c => out.push(c),
        }
    }
    out
}

/// The flags of one instruction, taken out one by one.
pub(crate) struct Flags<'a> {
    keyword: &'a str,
    flags: Vec<Flag>,
}

impl<'a> Flags<'a> {
    /// Checks that each flag is known, and that only `repeatable` ones come twice.
    pub(crate) fn new(
        keyword: &'a str,
        flags: Vec<Flag>,
        known: &[&'static str],
        repeatable: &[&'static str],
    ) -> Result<Self, Wrong> {
        for (at, flag) in flags.iter().enumerate() {
            let name = flag.name.as_str();
            if !known.contains(&name) {
                let hint = did_you_mean(name, known.iter().copied());
                let message = format!("unknown flag: {keyword} --{name}{hint}");
                return Err(Wrong::word(message, format!("--{name}")));
            }
            let again = flags[..at].iter().any(|before| before.name == flag.name);
            if again && !repeatable.contains(&name) {
                let message = format!("duplicate flag specified: {keyword} --{name}");
                return Err(Wrong::word(message, format!("--{name}")));
            }
        }
        Ok(Self { keyword, flags })
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else {
            return Ok(None);
        };
        let missing = || format!("missing a value on flag: {} --{name}", self.keyword);
        flag.value.clone().map(Some).ok_or_else(missing)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = self.flags.iter().filter(|flag| flag.name == name);
        named
            .map(|flag| flag.value.clone().unwrap_or_default())
            .collect()
    }

    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else {
            return Ok(None);
        };
        let value = flag.value.as_deref().unwrap_or("true");
        truth(value).map(Some).ok_or_else(|| {
            format!(
                "expecting boolean value for flag {} --{name}, not: {value}",
                self.keyword
            )
        })
    }
}

/// A truth value as flags and mount options write it.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
