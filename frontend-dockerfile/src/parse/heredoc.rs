//! Where here-documents start: digits, `<<`, perhaps `-`, a delimiter.

use crate::ast::Heredoc;
use crate::expand::Lexer;

/// The here-documents that a line of RUN, COPY or ADD asks for, without their texts.
///
/// # Errors
/// When a delimiter's quotes don't match.
pub(super) fn starts(line: &str) -> Result<Vec<Heredoc>, String> {
    // A line whose quotes don't match has none.
    let words = Lexer::for_heredocs(true, true).expand(line, &|_| None);
    let words = words.map(|line| line.words).unwrap_or_default();
    let mut found = Vec::new();
    for word in words {
        found.extend(parse(&word)?);
    }
    Ok(found)
}

/// What a word says when it starts a here-document.
///
/// # Errors
/// When the delimiter's quotes don't match.
pub(crate) fn parse(word: &str) -> Result<Option<Heredoc>, String> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<").filter(|rest| !rest.contains('<')) else {
        return Ok(None);
    };
    let chomp = rest.starts_with('-');
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() {
        return Ok(None);
    }
    let plain = words(rest, false)?;
    let [name] = &plain[..] else { return Ok(None) };
    let quoted = words(rest, true)?;
    let quotes = |text: &String| text.matches(['\'', '"']).count();
    let expand = quoted.first().map(quotes) == Some(quotes(name));
    Ok(Some(Heredoc {
        name: name.clone(),
        expand,
        chomp,
        content: String::new(),
    }))
}

fn words(text: &str, raw_quotes: bool) -> Result<Vec<String>, String> {
    let lexer = Lexer::for_heredocs(raw_quotes, false);
    let words = lexer.expand(text, &|_| None);
    words.map(|text| text.words).map_err(|bad| bad.message)
}

/// A text without the tabs at the starts of its lines: `<<-`.
pub(crate) fn chomped(content: &str) -> String {
    let lines = content.split_inclusive('\n');
    lines.map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters() {
        let cases = [
            ("<<EOF", "EOF true false"),
            ("<<'EOF'", "EOF false false"),
            ("<<-\"EOF\"", "EOF false true"),
            ("3<<EO'F'", "EOF false false"),
            ("<< EOF", "EOF true false"),
            ("<<-  EOF", "EOF true true"),
            (r"<<eo\'f", "eo'f true false"),
            ("<<'one two'", "one two false false"),
            ("<<$E", "$E true false"),
        ];
        for (word, want) in cases {
            let found = parse(word).unwrap().unwrap();
            let text = format!("{} {} {}", found.name, found.expand, found.chomp);
            assert_eq!(text, want, "{word}");
        }
        for word in ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "a<<E"] {
            assert_eq!(parse(word), Ok(None), "{word}");
        }
        for word in ["<<'EOF", "<<EOF\""] {
            assert!(parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn lines() {
        let names = |line: &str| {
            let found = starts(line).unwrap();
            let names: Vec<String> = found.into_iter().map(|heredoc| heredoc.name).collect();
            names.join(" ")
        };
        assert_eq!(names("RUN <<A cat && 4<<-B"), "A B");
        assert_eq!(names("RUN '<<A' \"<<B\" << C"), "C");
        // The blank parts the dash from the delimiter.
        assert_eq!(names("RUN <<- C"), "");
        assert_eq!(names("RUN << -A"), "-A");
        assert_eq!(names("RUN it's <<A"), "");
    }
}
