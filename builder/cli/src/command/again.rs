//! The command that goes on after a failure: the one that was given, whole, from the failed step on.

use std::borrow::Cow;

/// The words after `kiln` as a command line that runs a step and all after it.
/// Of an executor with kaniko's flags, the build in short.
pub(super) fn go_on(words: &[String], step: &str) -> String {
    const OWN: [&str; 4] = ["build", "bud", "buildx", "builder"];
    let first = words.first().map(String::as_str);
    if !first.is_some_and(|word| OWN.contains(&word)) {
        return format!("kiln build --from {}", quoted(step));
    }
    let mut line = "kiln".to_owned();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            // The value follows, or there is none.
            "--from" => _ = rest.next(),
            "--no-cache" => {}
            word if word.starts_with("--from=") || word.starts_with("--no-cache=") => {}
            word => {
                line.push(' ');
                line.push_str(&quoted(word));
            }
        }
    }
    kiln_graph::address::redact(&format!("{line} --from {}", quoted(step))).into_owned()
}

/// A word as a shell reads it again.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_flags_are_kept() {
        let words = |line: &[&str]| {
            line.iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        for (given, want) in [
            (&["build", "."][..], "kiln build . --from @7"),
            (
                &[
                    "build",
                    "-t",
                    "a:1",
                    "--build-arg",
                    "A=b c",
                    "--from",
                    "@3",
                    ".",
                ],
                "kiln build -t a:1 --build-arg 'A=b c' . --from @7",
            ),
            (
                &["build", "--no-cache", "--from=x", "it's"],
                r"kiln build 'it'\''s' --from @7",
            ),
            (&["--context", "."], "kiln build --from @7"),
        ] {
            assert_eq!(go_on(&words(given), "@7"), want);
        }
    }
}
