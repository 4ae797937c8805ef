//! The command that goes on after a failure: the one that was given, whole, from the failed step on.

use std::borrow::Cow;

use kiln::{RawField, Shown, redact_fields};
use kiln_graph::address::{REDACTED, names_a_credential, redact_variable};

use super::cache_spec::is_header;

/// The words after `kiln` as a command line that runs a step and all after it.
/// Of an executor with kaniko's flags, the build in short.
pub(super) fn go_on(words: &[String], step: &str) -> String {
    const OWN: [&str; 4] = ["build", "bud", "buildx", "builder"];
    let first = words.first().map(String::as_str);
    if !first.is_some_and(|word| OWN.contains(&word)) {
        return format!("kiln build --from {}", quoted(step));
    }
    let mut line = "kiln".to_owned();
    let from = format!(" --from {}", quoted(step));
    // Behind `--` there are no flags.
    let end = words.iter().position(|word| word == "--");
    let (flags, behind) = words.split_at(end.unwrap_or(words.len()));
    let mut rest = flags.iter();
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
    line.push_str(&from);
    for word in behind {
        line.push(' ');
        line.push_str(&quoted(word));
    }
    kiln_graph::address::redact(&line).into_owned()
}

/// A word without credentials: those of variables, of a place's keys, and of commands that print a
/// secret.
pub(super) fn open(word: &str) -> String {
    let (flag, value) = match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (format!("{flag}="), value),
        _ => (String::new(), word),
    };
    if let Some((name, variable)) = value.split_once('=')
        && names_a_credential(name)
        && !variable.is_empty()
    {
        return format!("{flag}{name}={REDACTED}");
    }
    flag + &redact_fields(value, shown)
}

/// How much is shown of a field. What a command prints, and headers without quotes, may hold commas.
fn shown(field: &RawField<'_>, key: &str, value: &str) -> Shown {
    let redacted = || REDACTED.to_owned();
    match redact_variable(key, value) {
        _ if value.starts_with("exec:") => Shown::Last(format!("exec:{REDACTED}")),
        _ if is_header(key) && !field.is_quoted() => Shown::Last(redacted()),
        _ if is_header(key) || key.split('_').any(names_a_credential) => Shown::Instead(redacted()),
        Cow::Owned(other) => Shown::Instead(other),
        Cow::Borrowed(other) if other != value => Shown::Instead(other.to_owned()),
        Cow::Borrowed(_) => Shown::All,
    }
}

/// A word as a shell reads it again.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
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
            "type=s3,\"secret_access_key=a,hunter2\",bucket=b",
            "--cache-to=type=s3,secret_access_key=\"a,hunter2\",bucket=b",
            "type=gha, token=\"a\"\",hunter2\",scope=a",
            "NPM_TOKEN=a,hunter2",
            "--build-arg=NPM_TOKEN=a,b=hunter2",
            "id=x,src=exec:printf a,hunter2",
        ] {
            let shown = open(word);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for word in [
            "VERSION=1,2",
            "--build-arg=A=b",
            "A=say \"a,b\"",
            "id=x,src=file",
            "type=local,\"dest=a,b\"",
            "a:1",
        ] {
            assert_eq!(open(word), word);
        }
        let place = "type=s3,\"secret_access_key=a,b\",bucket=c";
        assert_eq!(open(place), "type=s3,secret_access_key=***,bucket=c");
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
            (
                &["build", "-f", "D", "--", "--from"],
                "kiln build -f D --from @7 -- --from",
            ),
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
