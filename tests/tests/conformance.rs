//! The conformance corpus: Dockerfiles whose results were checked against BuildKit.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::process::Command;

use kiln_tests::{Space, kiln_binary};

const TEMPLATE: &str = "build --progress plain -f {dockerfile} {target_flags} {arg_flags} \
    {label_flags} {secret_flags} {platform_flags} {no_cache_flag} {context_flags} \
    --output type=tar,dest={out_tar} --output type=oci,dest={out_oci} {context}";

#[test]
fn every_case_passes() {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let folder = std::env::var_os("KILN_CONFORMANCE").map_or(beside, PathBuf::from);
    if !folder.join("run.py").exists() {
        eprintln!("SKIPPED: no conformance corpus at {}", folder.display());
        return;
    }
    let space = Space::new();
    let driver = format!("cmd:{} {TEMPLATE}", kiln_binary().display());
    let output = Command::new("python3")
        .arg(folder.join("run.py"))
        .args(["--driver", &driver])
        .arg(folder.join("open.jsonl"))
        .env("KILN_ROOT", space.path("store"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" passed, 0 failed"), "{text}");
}
