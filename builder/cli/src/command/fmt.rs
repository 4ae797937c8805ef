//! `kiln fmt`: the canonical layout of a kiln.toml.

use std::path::PathBuf;

use clap::Args;

use super::{Failed, say};
use kiln::Error;

/// The flags of `kiln fmt`.
#[derive(Args, Debug)]
pub(crate) struct FmtArgs {
    /// The file
    #[arg(default_value = "kiln.toml", value_name = "FILE")]
    file: PathBuf,
    /// Change nothing, and fail if there is something to change
    #[arg(long)]
    check: bool,
}

/// Runs `kiln fmt`.
pub(crate) fn run(args: &FmtArgs) -> Result<(), Failed> {
    let shown = args.file.display();
    let file_error = |doing: &str, source| Error::File {
        what: format!("cannot {doing} {shown}"),
        source,
    };
    let text = std::fs::read_to_string(&args.file).map_err(|error| file_error("read", error))?;
    let laid_out = kiln_frontend_toml::format(&text).map_err(Error::from)?;
    if laid_out == text {
        return Ok(());
    }
    if args.check {
        return Err(Failed {
            text: format!("{shown} isn't laid out as it should be: run 'kiln fmt {shown}'"),
            status: 1,
        });
    }
    std::fs::write(&args.file, laid_out).map_err(|error| file_error("write", error))?;
    say(&format!("laid out {shown}"));
    Ok(())
}
