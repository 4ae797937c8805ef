//! Whether standard error is for a program: known before the command line is understood, for what is
//! wrong with it is said there as well.

use std::ffi::OsString;

/// The value of `--progress`, and of what stands for it.
const JSON: &str = "rawjson";

/// Whether all that is said is to be events.
pub(super) fn wants_json(words: &[OsString]) -> bool {
    let words = words.iter().filter_map(|word| word.to_str());
    let words: Vec<&str> = words.take_while(|word| *word != "--").collect();
    let is_given = |word: &&str| words.contains(word);
    if ["-q", "--quiet", "-h", "--help"].iter().any(is_given) {
        return false;
    }
    let mut styles =
        words
            .iter()
            .enumerate()
            .filter_map(|(at, word)| match word.strip_prefix("--progress") {
                Some("") => words.get(at + 1).copied(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            });
    match styles.next_back() {
        Some(style) => style == JSON,
        None => {
            let is_build = matches!(
                words.as_slice(),
                ["build" | "bud", ..] | ["buildx" | "builder", "build", ..]
            );
            is_build && std::env::var("BUILDKIT_PROGRESS").is_ok_and(|style| style == JSON)
        }
    }
}

/// Whether another command has begun what is said: this is the build of a bake's target.
pub(super) fn is_within(words: &[OsString]) -> bool {
    let words = words.iter().filter_map(|word| word.to_str());
    let mut flags = words.take_while(|word| *word != "--");
    flags.any(|word| word.starts_with("--bake-target="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_seen_in_the_words() {
        for (line, want) in [
            ("build --progress rawjson --bogus", true),
            ("build --progress=rawjson .", true),
            ("bake --progress=rawjson", true),
            ("build --progress=rawjson --progress plain .", false),
            ("build -q --progress=rawjson .", false),
            ("build -- --progress=rawjson", false),
            ("build --progress", false),
            ("image ls", false),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(wants_json(&words), want, "{line}");
        }
    }
}
