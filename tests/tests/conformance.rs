//! The conformance corpus: Dockerfiles whose results were checked against BuildKit (`open.jsonl`),
//! and others whose results follow from its sources (`neighbours.jsonl`).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::process::Command;

use kiln_tests::{Space, kiln_binary};

const TEMPLATE: &str = "build --progress plain -f {dockerfile} {target_flags} {arg_flags} \
    {label_flags} {secret_flags} {platform_flags} {no_cache_flag} {context_flags} \
    --output type=tar,dest={out_tar} --output type=oci,dest={out_oci} {context}";

fn every_case_passes(file: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let space = Space::new();
    let driver = format!("cmd:{} {TEMPLATE}", kiln_binary().display());
    let output = Command::new("python3")
        .arg(directory.join("run.py"))
        .args(["--driver", &driver])
        .arg(directory.join(file))
        .env("KILN_ROOT", space.path("store"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains(" passed, 0 failed"), "{text}");
}

#[test]
fn corpus() {
    every_case_passes("open.jsonl");
}

#[test]
fn neighbours() {
    every_case_passes("neighbours.jsonl");
}
