//! The command that goes on after a failure: the one that was given, whole, from the failed step on.

use std::borrow::Cow;

use kiln_graph::address::{REDACTED, names_a_credential, redact_variable};

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
            "--creds" => {
                _ = rest.next();
                line.push_str(&format!(" --creds {REDACTED}"));
            }
            word if word.starts_with("--creds=") => {
                line.push_str(&format!(" --creds={REDACTED}"));
            }
            word if word.starts_with("--from=") || word.starts_with("--no-cache=") => {}
            word => {
                line.push(' ');
                line.push_str(&quoted(&open(word)));
            }
        }
    }
    kiln_graph::address::redact(&format!("{line} --from {}", quoted(step))).into_owned()
}

/// A word without credentials: those of variables, of a place's keys, and of commands that print a
/// secret.
fn open(word: &str) -> String {
    let (flag, value) = match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (format!("{flag}="), value),
        _ => (String::new(), word),
    };
    let field = |field: &str| match field.split_once('=') {
        Some((key, value)) if value.starts_with("exec:") => format!("{key}=exec:{REDACTED}"),
        Some((key, _)) if is_header(key) => format!("{key}={REDACTED}"),
        Some((key, _)) if key.split('_').any(names_a_credential) => format!("{key}={REDACTED}"),
        Some((key, value)) => format!("{key}={}", redact_variable(key, value)),
        None => field.to_owned(),
    };
    let fields: Vec<String> = before_quotes(value).split(',').map(field).collect();
    flag + &fields.join(",")
}

/// Whether a key's value is sent with calls to a server: what lets somebody in, mostly.
fn is_header(key: &str) -> bool {
    let key = key.trim_start_matches('"');
    key == "header" || key.starts_with("header.")
}

/// Fields up to the first in quotes that holds a header, of which nobody knows here where it ends.
fn before_quotes(value: &str) -> &str {
    let quoted = value.match_indices('"').map(|(at, _)| at + 1);
    let header = quoted
        .into_iter()
        .find(|&at| value[at..].starts_with("header"));
    let end = header.and_then(|at| Some(at + value[at..].find('=')? + 1));
    end.map_or(value, |end| &value[..end])
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
    fn credentials_are_not_shown() {
        for word in [
            "NPM_TOKEN=hunter2",
            "--build-arg=NPM_TOKEN=hunter2",
            "https_proxy=user:hunter2@host:1",
            "id=x,src=exec:echo hunter2",
            "type=s3,bucket=b,access_key_id=hunter2,secret_access_key=hunter2,session_token=hunter2",
            "x=https://hunter2@h/a.git",
            "grpcs://h,header.authorization=hunter2,property.pool=a",
            "type=gha,scope=a,token=hunter2,ghtoken=hunter2",
            "type=reapi,url=grpcs://h,header=authorization:hunter2",
            "type=reapi,url=grpcs://h,\"header=authorization:Bearer a,hunter2\"",
        ] {
            let shown = open(word);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for word in ["VERSION=1,2", "--build-arg=A=b", "id=x,src=file", "a:1"] {
            assert_eq!(open(word), word);
        }
    }

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
        for given in [
            &["build", "--creds", "u:hunter2", "."][..],
            &["build", "--creds=r.example=u:hunter2", "."],
        ] {
            let line = go_on(&words(given), "@7");
            assert!(!line.contains("hunter2"), "{line}");
            assert!(line.ends_with(" . --from @7"), "{line}");
        }
    }
}
