//! The programs do what they say.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make and look at files of their own"
)]

use std::path::Path;
use std::process::Command;

/// What a program writes, run in a directory with this build file.
fn run(program: &str, directory: &Path, dockerfile: &str) -> String {
    std::fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    let output = Command::new(program)
        .current_dir(directory)
        .env("KILN_ROOT", directory.join("store"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_source_gives_files_and_the_same_files_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_custom-source");
    let first = run(program, directory.path(), "");
    assert!(first.starts_with("Some("), "{first}");
    assert_eq!(run(program, directory.path(), ""), first);
}

#[test]
fn an_executor_is_given_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_custom-executor");
    let said = run(
        program,
        directory.path(),
        "FROM scratch\nRUN [\"make\", \"all\"]\n",
    );
    assert_eq!(said, "make all\n");
}

#[test]
fn two_stores_share_a_cache() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_custom-cache");
    let said = run(
        program,
        directory.path(),
        "FROM scratch\nCOPY Dockerfile /\n",
    );
    let digest = |line: &str| line.split_once(": ").map(|(_, digest)| digest.to_owned());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(digest(lines[0]), digest(lines[1]));
}
