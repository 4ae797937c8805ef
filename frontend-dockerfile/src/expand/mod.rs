//! Variables in words: `$NAME`, `${NAME}`, `${NAME:-word}` and its kin, quotes and escapes, as
//! BuildKit's shell lexer (`frontend/dockerfile/shell`) reads them.

mod pattern;
mod scanner;

use std::collections::BTreeSet;

use scanner::Scanner;

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer {
    /// What takes the meaning of the next character away.
    escape: char,
    /// Quotes group, but stay in the text.
    raw_quotes: bool,
    /// Escapes stay in the text.
    raw_escapes: bool,
    /// Quotes are characters like others.
    ignore_quotes: bool,
    /// What isn't set stays as it is written.
    keep_unset: bool,
}

/// What became of a word.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    /// The word with values in it.
    pub(crate) text: String,
    /// The same, split at blanks that are neither quoted nor escaped.
    pub(crate) words: Vec<String>,
    /// The variables that were looked up and are set.
    pub(crate) set: BTreeSet<String>,
    /// Those that aren't.
    pub(crate) unset: BTreeSet<String>,
}

/// A word that can't be expanded.
#[derive(Debug)]
pub(crate) struct BadWord {
    /// What is wrong, in the words of BuildKit.
    pub(crate) message: String,
    /// The variables that were looked up before and aren't set.
    pub(crate) unset: BTreeSet<String>,
}

/// Finds the value of a variable.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Lexer {
    /// For the words of instructions.
    pub(crate) fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            ignore_quotes: false,
            keep_unset: false,
        }
    }

    /// For the text of here-documents.
    pub(crate) fn for_text() -> Self {
        Self {
            ignore_quotes: true,
            ..Self::new('\\')
        }
    }

    /// For finding where here-documents start.
    pub(crate) fn for_heredocs(raw_quotes: bool, raw_escapes: bool) -> Self {
        Self {
            raw_quotes,
            raw_escapes,
            keep_unset: true,
            ..Self::new('\\')
        }
    }

    /// Expands one word.
    ///
    /// # Errors
    /// When the word can't be read, or becomes too large.
    pub(crate) fn expand(self, word: &str, lookup: Lookup<'_>) -> Result<Expansion, BadWord> {
        if !word.contains(['$', '\'', '"', self.escape, ' ', '\t', '\n']) {
            return Ok(Expansion::plain(word));
        }
        let mut scanner = Scanner::new(self, word, lookup);
        match scanner.run() {
            Ok((text, words)) => Ok(Expansion {
                text,
                words,
                set: scanner.set,
                unset: scanner.unset,
            }),
            Err(message) => Err(BadWord {
                message: format!(
                    "failed to process {}: {message}",
                    crate::quote::quote(&shortened(word))
                ),
                unset: scanner.unset,
            }),
        }
    }
}

impl Expansion {
    fn plain(word: &str) -> Self {
        let is_one = !word.is_empty() && !word.contains(char::is_whitespace);
        let words = match is_one {
            true => vec![word.to_owned()],
            false => word.split_whitespace().map(str::to_owned).collect(),
        };
        Self {
            text: word.to_owned(),
            words,
            ..Self::default()
        }
    }
}

/// A word as messages show it.
fn shortened(word: &str) -> String {
    const SHOWN: usize = 200;
    match word.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [
            ("x", "1"),
            ("e", ""),
            ("p", "f.tar.gz"),
            ("r", "abcabc"),
            ("w", "a  b"),
        ];
        known
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    }

    fn word(text: &str) -> Result<String, String> {
        let expanded = Lexer::new('\\').expand(text, &lookup);
        expanded
            .map(|expanded| expanded.text)
            .map_err(|bad| bad.message)
    }

    #[test]
    fn words_as_the_shell_lexer_reads_them() {
        let cases = [
            ("$x", "1"),
            ("${x}y", "1y"),
            ("$xy", ""),
            ("'$x'", "$x"),
            (r"\$x", "$x"),
            (r#""$x z""#, "1 z"),
            (r#""\$x""#, "$x"),
            (r#""\a\\""#, r"\a\"),
            (r"a\", "a"),
            (r"\\", r"\"),
            ("${u:-d}${e:-d}${e-d}", "dd"),
            ("${u:+a}${e:+a}${e+a}${x:+a}", "aa"),
            ("${e?msg}", ""),
            ("${u:-${v:-$x}}", "1"),
            ("${u:-'a b'}", "a b"),
            ("${p%.*} ${p%%.*} ${p#*.} ${p##*.}", "f.tar f tar.gz gz"),
            (
                "${r#??} ${r%?} ${r/b?/X} ${r//b?/X}",
                "cabc abcab aXabc aXaX",
            ),
            ("${r/b*/X} ${r//[/X} ${r/z/X}", "aX abcabc abcabc"),
            ("${r//b/<$0>}", "a<>ca<>c"),
            ("${r//b/'$0'}", "abcabc"),
            (r"${p/\*/x}", "f.tar.gz"),
            ("a$", "a$"),
            ("$1a$12", "a"),
            ("$?x", "x"),
            ("a<<b", "a<<b"),
            ("${x}}", "1}"),
        ];
        for (text, want) in cases {
            assert_eq!(word(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read() {
        let cases = [
            ("${x", "unsupported modifier"),
            ("${", "missing '}'"),
            ("${}", "bad substitution"),
            ("${:-x}", "bad substitution"),
            ("\"abc", "looking for matching double-quote"),
            ("'abc", "looking for matching single-quote"),
            ("${e:?is empty}", "e: is empty"),
            ("${e:?}", "e: is not allowed to be empty"),
            ("${u?}", "u: is not allowed to be unset"),
            ("${x!}", "unsupported modifier (!) in substitution"),
            ("${x:#a}", "unsupported modifier (:#) in substitution"),
            ("${x/a}", "missing '/' in ${}"),
            (r"${x#\a}", r"invalid escape '\a'"),
        ];
        for (text, want) in cases {
            let error = word(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
            assert!(error.starts_with("failed to process \""), "{error}");
        }
    }

    #[test]
    fn splitting_minds_quotes_and_comes_after_expansion() {
        let cases: [(&str, &[&str]); 7] = [
            ("$w c", &["a", "b", "c"]),
            ("\"$w\" c", &["a  b", "c"]),
            (r"a\ b", &["a b"]),
            ("''", &[]),
            (" a ", &["a"]),
            ("a'b c'd", &["ab cd"]),
            ("<< x", &["<< x"]),
        ];
        for (text, want) in cases {
            let words = Lexer::new('\\').expand(text, &lookup).unwrap().words;
            assert_eq!(words, want, "{text}");
        }
    }

    #[test]
    fn texts_of_heredocs_lose_escapes_only() {
        let cases = [
            (r"a\nb", "anb"),
            (r"\$x \\ \'", r"$x \ '"),
            ("'$x' \"$x\"", "'1' \"1\""),
            ("a\\\nb", "a\nb"),
        ];
        for (text, want) in cases {
            let expanded = Lexer::for_text().expand(text, &lookup).unwrap();
            assert_eq!(expanded.text, want, "{text}");
        }
    }

    #[test]
    fn what_was_looked_up_is_known() {
        let expanded = Lexer::new('\\').expand("$x${u:-$v}$e", &lookup).unwrap();
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&expanded.set), "e x");
        assert_eq!(names(&expanded.unset), "u v");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = format!("{}{}", "${u:-".repeat(10_000), "}".repeat(10_000));
        assert!(word(&deep).unwrap_err().contains("nested"));
        let big = "x".repeat(1 << 20);
        let lookup = |_: &str| Some(big.clone());
        let error = Lexer::new('\\').expand(&"$a".repeat(100), &lookup);
        assert!(error.unwrap_err().message.contains("longer than"));
        let value = "a".repeat(30_000);
        let lookup = |_: &str| Some(value.clone());
        // Patterns that are matched by trying every way would never end.
        let stars = "a*".repeat(400);
        for text in [format!("${{v##{stars}b}}"), format!("${{v//{stars}b/c}}")] {
            _ = Lexer::new('\\').expand(&text, &lookup);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[${}:\-+?#%/*a-z"'\\ <]{0,40}"#) {
            for lexer in [
                Lexer::new('\\'),
                Lexer::new('`'),
                Lexer::for_text(),
                Lexer::for_heredocs(true, true),
            ] {
                _ = lexer.expand(&text, &lookup);
            }
        }
    }
}
