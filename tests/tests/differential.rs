//! Cases made at random, built by kiln and by another builder (`tests/differential`).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::process::Command;

use kiln_tests::{Run, kiln_binary};

/// Compares with `$KILN_DIFFERENTIAL` (`DRIVER=PROGRAM`) or buildah, from `$KILN_SEED` on.
#[test]
fn random_cases_give_what_another_builder_gives() {
    let variable = |name: &str, usual: &str| std::env::var(name).unwrap_or(usual.to_owned());
    let left = format!("kiln={}", kiln_binary().display());
    let output = Command::new("python3")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("differential"))
        .args([
            "--left",
            &left,
            "--right",
            &variable("KILN_DIFFERENTIAL", "buildah"),
        ])
        .args([
            "--seed",
            &variable("KILN_SEED", "1"),
            "--count",
            &variable("KILN_CASES", "40"),
        ])
        .output()
        .unwrap();
    let run = Run::of(&output).ok();
    assert!(
        run.stdout.ends_with(" passed, 0 failed\n"),
        "{}",
        run.stdout
    );
}
