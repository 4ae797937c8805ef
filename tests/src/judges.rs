//! Independent tools that judge package lists, which `scripts/setup-tests` fetches.

use std::path::PathBuf;
use std::process::Command;

use crate::{Run, test_cache};

/// Python's packages of syft and of validators.
#[derive(Debug)]
pub struct Judges(PathBuf);

impl Judges {
    /// Them, or `None` where `scripts/setup-tests` could not fetch them.
    #[must_use]
    pub fn find() -> Option<Self> {
        let path = test_cache().join("judges");
        if !path.exists() {
            eprintln!("skipped: scripts/setup-tests could not fetch what judges package lists");
            return None;
        }
        Some(Self(path))
    }

    /// Runs a program of theirs, with arguments.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Run {
        let mut python = Command::new("python3");
        let python = python
            .args(["-c", program])
            .args(arguments)
            .env("PYTHONPATH", &self.0)
            .env("SYFT_CHECK_FOR_APP_UPDATE", "false");
        Run::of(&python.output().expect("python3 can be started"))
    }
}
