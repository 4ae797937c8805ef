//! `kiln timeline`: a build as bars on a time axis, in one page that needs nothing else.

use std::path::PathBuf;

use clap::Args;

use super::{Failed, past, say};
use kiln::Error;

const PAGE: &str = include_str!("timeline.html");

/// The flags of `kiln timeline`.
#[derive(Args, Debug)]
pub(crate) struct TimelineArgs {
    /// The page to be written
    #[arg(short, long, default_value = "timeline.html", value_name = "FILE")]
    output: PathBuf,
    /// The build, as 'kiln history' names it (default: the last one)
    #[arg(long, value_name = "ID")]
    build: Option<String>,
}

/// Runs `kiln timeline`.
pub(crate) fn run(args: &TimelineArgs) -> Result<(), Failed> {
    let engine = super::open()?;
    let mut build = past::find(engine.store(), args.build.as_deref())?;
    // How the build was asked for is nobody's business who is sent the page.
    build.plan = serde_json::Value::Null;
    let critical = crate::report::summary::critical_path(&build);
    let data = serde_json::json!({ "build": build, "critical": critical });
    // What `<` begins can end the script, or hide its end.
    let data = data.to_string().replace('<', "\\u003c");
    let page = PAGE.replace("\"BUILD\"", &data);
    std::fs::write(&args.output, page).map_err(Error::file("write", &args.output))?;
    say(&format!("wrote {}", args.output.display()));
    Ok(())
}
