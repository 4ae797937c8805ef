//! Headers from a credential helper, as Bazel's: `PROGRAM get` reads `{"uri": …}` and writes
//! `{"headers": {NAME: [VALUE, …]}}` (specification: `EngFlow/credential-helper-spec`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ClusterError;

/// A helper that asks its user takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Serialize)]
struct Question<'a> {
    uri: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
}

/// Asks a helper for the headers of an address.
pub(crate) fn ask(program: &Path, uri: &str) -> Result<Vec<(String, String)>, ClusterError> {
    let fail = |reason: String| ClusterError::CredentialHelper {
        path: program.to_owned(),
        reason,
    };
    let answer = run(program, uri).map_err(fail)?;
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| fail("its answer is no JSON of headers".into()))?;
    let pairs = answer.headers.into_iter();
    Ok(pairs
        .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
        .collect())
}

fn run(program: &Path, uri: &str) -> Result<Vec<u8>, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("it can't be run: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let question = serde_json::to_vec(&Question { uri }).unwrap_or_default();
        // A helper that knows the answer without reading closes the pipe.
        _ = stdin.write_all(&question);
    }
    let reader = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(stdout, MAX_ANSWER), &mut bytes)
                .map(|_| bytes)
        })
    });
    wait(&mut child)?;
    let read = reader.and_then(|reader| reader.join().ok());
    read.and_then(Result::ok)
        .ok_or_else(|| "its answer can't be read".to_owned())
}

fn wait(child: &mut Child) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it failed ({status})")),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.to_string()),
        }
    }
    _ = child.kill();
    _ = child.wait();
    Err(format!("it did not end within {} s", PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn helper(directory: &Path, text: &str) -> std::path::PathBuf {
        let path = directory.join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn answers_of_helpers() {
        let directory = tempfile::tempdir().unwrap();
        let asked = |text: &str| ask(&helper(directory.path(), text), "https://h:1/");
        let echo = r#"read q; echo "{\"headers\":{\"authorization\":[\"$1 ${#q}\"]}}""#;
        let want = ("authorization".to_owned(), "get 22".to_owned());
        assert_eq!(asked(echo).unwrap(), [want]);
        assert_eq!(asked("echo '{}'").unwrap(), []);
        for (text, reason) in [
            ("exit 3", "it failed"),
            ("echo no", "no JSON"),
            ("exec head -c 2000000 /dev/zero", "it failed"),
        ] {
            let error = asked(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let missing = ask(&directory.path().join("none"), "https://h:1/");
        assert!(missing.unwrap_err().to_string().contains("can't be run"));
    }
}
