//! The fields of a record as they are written, and records as they may be shown.
//!
//! What hides a value and what reads it have to agree on where it ends, so both split here.

/// One field of a record of comma-separated values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawField<'a> {
    /// As it is written, quotes included.
    pub raw: &'a str,
    /// What it means: without its quotes.
    pub text: String,
}

impl RawField<'_> {
    /// The key and the value, if it has both.
    #[must_use]
    pub fn pair(&self) -> Option<(&str, &str)> {
        let (key, value) = self.text.split_once('=')?;
        Some((key.trim(), value))
    }

    /// Whether it begins with a quote, so that its end is sure.
    #[must_use]
    pub fn is_quoted(&self) -> bool {
        self.raw.starts_with('"')
    }
}

/// How much of a field is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    All,
    /// Another value in place of its own. Fields without `=` that follow are left out: they are the rest of a
    /// value that should have been in quotes.
    Instead(String),
    /// Another value in place of its own, and nothing that is behind it.
    Last(String),
}

/// Splits a record; empty fields are among the results.
pub(crate) fn raw_fields(text: &str) -> impl Iterator<Item = RawField<'_>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (field, behind) = first(rest?);
        rest = behind;
        Some(field)
    })
}

/// The first field, and what is behind its comma.
fn first(text: &str) -> (RawField<'_>, Option<&str>) {
    let (mut meaning, mut quoted) = (String::new(), false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if quoted && chars.next_if(|(_, next)| *next == '"').is_some() => meaning.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => {
                let raw = &text[..at];
                return (RawField { raw, text: meaning }, Some(&text[at + 1..]));
            }
            c => meaning.push(c),
        }
    }
    (
        RawField {
            raw: text,
            text: meaning,
        },
        None,
    )
}

/// A record as it may be shown: `show` says how much of each field that has a key and a value.
pub fn redact_fields(text: &str, show: impl Fn(&RawField<'_>, &str, &str) -> Shown) -> String {
    let mut all = Vec::new();
    let mut is_inside = false;
    for field in raw_fields(text) {
        let Some((key, value)) = field.pair() else {
            if !is_inside {
                all.push(field.raw.to_owned());
            }
            continue;
        };
        let shown = show(&field, key, value);
        is_inside = shown != Shown::All;
        match shown {
            Shown::All => all.push(field.raw.to_owned()),
            Shown::Instead(other) => all.push(format!("{key}={other}")),
            Shown::Last(other) => {
                all.push(format!("{key}={other}"));
                break;
            }
        }
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without_secrets(text: &str) -> String {
        redact_fields(text, |_, key, _| match key {
            "secret" => Shown::Instead("***".to_owned()),
            "last" => Shown::Last("***".to_owned()),
            _ => Shown::All,
        })
    }

    #[test]
    fn values_are_hidden_to_where_they_end() {
        for (text, want) in [
            ("a=b,secret=c,d=e", "a=b,secret=***,d=e"),
            ("a=b,\"secret=c,d\",e=f", "a=b,secret=***,e=f"),
            ("secret=\"c,d\",e=f", "secret=***,e=f"),
            (" \"sec\"ret=c,\"e=f,g\"", "secret=***,\"e=f,g\""),
            ("\"secret=c\"\",d=e\",f=g", "secret=***,f=g"),
            ("\"secret=c,d=e", "secret=***"),
            ("secret=c,d,e=f,g", "secret=***,e=f,g"),
            ("a=b,last=c,d=e", "a=b,last=***"),
            ("a,,b=,\"c\"", "a,,b=,\"c\""),
        ] {
            assert_eq!(without_secrets(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_but_secrets(text in "[a-z=,\" ]{0,30}") {
            prop_assume!(!text.contains('s') && !text.contains('l'));
            prop_assert_eq!(without_secrets(&text), text);
        }

        #[test]
        fn quoted_secrets_are_hidden(value in "[a-z=,\" ]{0,20}", other in "[a-z]*") {
            let text = format!("a=b,\"secret={}\",c={other}", value.replace('"', "\"\""));
            prop_assert_eq!(without_secrets(&text), format!("a=b,secret=***,c={other}"));
        }
    }
}
