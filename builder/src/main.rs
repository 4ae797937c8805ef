//! The `kiln` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln::run_if_helper();
    kiln::cli::run()
}
