//! `kiln fmt`: the canonical layout of a kiln.toml.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln_tree::host;

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
    let text = read(&args.file).map_err(Error::file("read", &args.file))?;
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
    // A link inside its directory stays one.
    let written = host::canonicalize(&args.file)
        .and_then(|file| host::replace(&file, |file| file.write_all(laid_out.as_bytes())));
    written.map_err(Error::file("write", &args.file))?;
    say(&format!("laid out {shown}"));
    Ok(())
}

/// A stranger's file may be a link to one of the user's, whose lines an error would show.
fn read(file: &Path) -> std::io::Result<String> {
    let directory = match file.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let name = Path::new(file.file_name().unwrap_or_default());
    let bytes = kiln::read_inside(directory, name)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}
