//! Splits an instruction's rest into words, and reads its JSON form.

/// Blanks between the words of an instruction; others, such as no-break spaces, are characters
/// like any.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

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
        if c == escape && quote != Some('\'') {
            // An escape at the very end is dropped.
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        word.push(c);
        if quote == Some(c) {
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

/// The first word and the rest without the blanks between; `None` when there is one word only.
pub(crate) fn split_first(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(BLANKS)?;
    Some((first, rest.trim_start_matches(BLANKS)))
}

/// Words separated by blanks, whatever quotes and escapes say.
pub(crate) fn plain(text: &str) -> Vec<String> {
    let words = text.split(BLANKS).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// What a text in JSON form is.
pub(crate) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array, but not of strings alone.
    Others,
    /// Something else: the text is for the shell, or words.
    No,
}

/// Reads a JSON array.
pub(crate) fn json(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::No;
    }
    if let Ok(words) = serde_json::from_str(text) {
        return Json::Strings(words);
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => Json::Others,
        Err(_) => Json::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_keep_blanks() {
        let cases: [(&str, &[&str]); 7] = [
            ("a  b\tc", &["a", "b", "c"]),
            (r#"a="x y" b"#, &[r#"a="x y""#, "b"]),
            (r"a\ b c", &[r"a\ b", "c"]),
            (r"'a\' b", &[r"'a\'", "b"]),
            (r"a\", &["a"]),
            (r#"a="b\"#, &[r#"a="b"#]),
            ("", &[]),
        ];
        for (text, want) in cases {
            assert_eq!(split(text, '\\'), want, "{text}");
        }
        assert_eq!(plain("a\u{a0}b c"), ["a\u{a0}b", "c"]);
        assert_eq!(split_first("a \t b c"), Some(("a", "b c")));
    }
}
