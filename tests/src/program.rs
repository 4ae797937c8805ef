//! Programs that a test makes for its steps: the images have busybox only.

use std::path::{Path, PathBuf};

use crate::Space;

/// Compiles a C program that needs no library where it runs.
pub fn compile(source: &str, program: &Path) {
    let file = program.with_extension("c");
    std::fs::write(&file, source).unwrap();
    let (file, program) = (file.display().to_string(), program.display().to_string());
    _ = crate::run("cc", &["-static", "-O1", "-w", "-o", &program, &file]);
    std::fs::remove_file(file).unwrap();
}

impl Space {
    /// Puts the program `attack` into the context: see `fixtures/attack.c`.
    #[must_use]
    pub fn attack(&self) -> PathBuf {
        let program = self.path("context/attack");
        compile(include_str!("../fixtures/attack.c"), &program);
        program
    }
}
