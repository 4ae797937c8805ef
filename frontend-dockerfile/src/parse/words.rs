//! Splits an instruction's rest into words, and reads its JSON form.

/// Words separated by blanks; quotes and escapes keep blanks, and stay as written.
pub(crate) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && ['"', '\''].contains(&c) {
            quote = Some(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words separated by blanks, whatever quotes and escapes say.
pub(crate) fn plain(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A JSON array of strings, when the text is one.
pub(crate) fn json(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Whether the text is a JSON array, but not of strings alone.
pub(crate) fn is_bad_json(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('[')
        && json(text).is_none()
        && serde_json::from_str::<serde_json::Value>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_keep_blanks() {
        let cases: [(&str, &[&str]); 5] = [
            ("a  b\tc", &["a", "b", "c"]),
            (r#"a="x y" b"#, &[r#"a="x y""#, "b"]),
            (r"a\ b c", &[r"a\ b", "c"]),
            (r#"'a\' b"#, &[r"'a\'", "b"]),
            ("", &[]),
        ];
        for (text, want) in cases {
            assert_eq!(split(text, '\\'), want, "{text}");
        }
    }
}
