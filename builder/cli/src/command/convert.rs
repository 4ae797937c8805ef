//! `kiln convert`: a Dockerfile as a kiln.toml.

use std::path::PathBuf;

use clap::Args;
use kiln_frontend_dockerfile::Options;

use super::{Failed, print_exact, say};
use crate::convert::convert;
use kiln::{Error, Texts, file_text};

/// The flags of `kiln convert`.
#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// The Dockerfile
    #[arg(default_value = "Dockerfile", value_name = "DOCKERFILE")]
    file: PathBuf,
    /// Where the kiln.toml goes (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The stage that becomes the image (default: the last one)
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// Runs `kiln convert`.
pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failed> {
    let text = file_text(&args.file)?;
    if let Some(output) = &args.output
        // A link that leads nowhere is there, too.
        && output.symlink_metadata().is_ok()
        && !args.force
    {
        let text = format!(
            "{} is there already: give --force to replace it",
            output.display()
        );
        return Err(Error::Usage(text).into());
    }
    let options = Options {
        file_name: args.file.display().to_string(),
        target: args.target.clone(),
        ..Options::default()
    };
    let engine = super::open()?;
    let converted = convert(&engine, &options, &text)
        .map_err(|error| Failed::of(&error, &Texts::of(text.as_str())))?;
    match &args.output {
        Some(output) => {
            std::fs::write(output, &converted.text).map_err(Error::file("write", output))?;
        }
        None => print_exact(&converted.text),
    }
    say(&summary(converted.marks));
    Ok(())
}

fn summary(marks: usize) -> String {
    match marks {
        0 => "converted; nothing is left to do by hand".to_owned(),
        1 => "converted; one thing is left to do, marked '# by hand: '".to_owned(),
        more => format!("converted; {more} things are left to do, marked '# by hand: '"),
    }
}
