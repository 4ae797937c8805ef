//! `kiln man`: the manual pages, from the command's own definitions.

use std::path::Path;

use clap::CommandFactory as _;

use super::Cli;
use kiln::Error;

/// Writes `kiln.1` and a page for each command into a directory.
pub(super) fn run(directory: &Path) -> Result<(), Error> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|source| Error::File {
        what: format!("cannot write the manual to {}", directory.display()),
        source,
    })
}
