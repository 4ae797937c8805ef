//! `kiln graph`.

use clap::{Args, ValueEnum};
use kiln_graph::address::redact;
use kiln_graph::{Format, StepId};

use super::source::SourceArgs;
use super::{Failed, print, print_json_text};
use kiln::{Assume, prepare};

/// The flags of `kiln graph`.
#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How the graph is printed
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// Don't ask registries about base images: take them to be empty
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Text,
    Json,
    Dot,
    Mermaid,
}

/// Runs `kiln graph`.
pub(crate) fn run(args: &GraphArgs) -> Result<(), Failed> {
    let mut request = args.source.request()?;
    if args.offline {
        request.assume_images = Assume::All;
    }
    let engine = args.source.open(None, &[])?;
    let prepared = prepare(&engine, &request).map_err(|at| Failed::of(&at.0, &at.1))?;
    let build = &prepared.compiled.build;
    let targets: Vec<StepId> = build.targets.iter().map(|target| target.root).collect();
    let format = match args.format {
        FormatArg::Text => Format::Text,
        FormatArg::Json => Format::Json,
        FormatArg::Dot => Format::Dot,
        FormatArg::Mermaid => Format::Mermaid,
    };
    let text = build
        .graph
        .render(&build.graph.needed_for(&targets), format);
    match format {
        Format::Json => print_json_text(&redact(&text)),
        Format::Text | Format::Dot | Format::Mermaid => print(&text),
    }
    Ok(())
}
