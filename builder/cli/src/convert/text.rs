//! Texts as a kiln.toml has them: quoted, braces kept, placeholders of names put in.

/// What surrounds a name while a Dockerfile is compiled: characters that no Dockerfile has.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// A value that becomes `{{ NAME }}`.
pub(super) fn placeholder(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// A text in quotes.
pub(super) fn quote(text: &str) -> String {
    let text = text.replace("{{", "{{ '{{' }}");
    let text = text.replace(OPEN, "{{ ").replace(CLOSE, " }}");
    if text.contains('\n') {
        return format!("\"\"\"\n{}\"\"\"", escape(&text, true));
    }
    let is_plain = !text.contains('\'') && !text.chars().any(char::is_control);
    match text.contains(['"', '\\']) && is_plain {
        true => format!("'{text}'"),
        false => format!("\"{}\"", escape(&text, false)),
    }
}

/// A list of texts in quotes.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// `{ a = "b", … }` of keys and values that are quoted already.
pub(super) fn table(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{} = {value}", self::key(key)))
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A key, in quotes where it needs them.
pub(super) fn key(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.chars().all(is_bare) {
        true => text.to_owned(),
        false => format!("\"{}\"", escape(text, false)),
    }
}

fn escape(text: &str, has_lines: bool) -> String {
    let keeps_quotes = has_lines && !text.contains("\"\"\"") && !text.ends_with('"');
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' if !keeps_quotes => out.push_str("\\\""),
            '\n' | '\t' if has_lines => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_texts_are_read_as_they_were() {
        let texts = [
            "plain",
            "it's",
            "say \"x\"",
            "a\\b",
            "'\"\\",
            "a\n\"\"\"\\\n",
            "x\r\ny",
            "end\n\"",
            "\u{7f}",
        ];
        for text in texts {
            let read: toml::Table = toml::from_str(&format!("a = {}", quote(text))).unwrap();
            assert_eq!(read["a"].as_str(), Some(text), "{}", quote(text));
        }
        let text = format!("{}{{{{", placeholder("params.A"));
        assert_eq!(quote(&text), "\"{{ params.A }}{{ '{{' }}\"");
    }
}
