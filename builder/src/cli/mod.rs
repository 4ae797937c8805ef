//! The command line.

mod build;
mod call;
mod doctor;
mod graph;
mod image;
mod output;
mod storage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds container images: fast, in parallel, without a daemon.
#[derive(Parser, Debug)]
#[command(name = "kiln", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Print the graph of a build
    Graph(Box<graph::GraphArgs>),
    /// Work with images in the store
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Show what the store holds
    Du,
    /// Remove what is no longer wanted from the store
    Prune(storage::PruneArgs),
    /// Say what this machine allows, and what to install
    Doctor,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match cli.command {
        Command::Build(args) => build::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Image(command) => image::run(&command),
        Command::Du => storage::du(),
        Command::Prune(args) => storage::prune(&args),
        Command::Doctor => doctor::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            say(&failed.text);
            ExitCode::from(failed.status)
        }
    }
}

/// A failed command, ready to be shown.
struct Failed {
    text: String,
    status: u8,
}

impl<E: Into<crate::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = error.into();
        Self {
            text: crate::report::error(&error, ""),
            status: error.exit_status(),
        }
    }
}

/// Writes a line to standard error.
fn say(text: &str) {
    use std::io::Write as _;
    _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes what was asked for to standard output.
fn print(text: &str) {
    use std::io::Write as _;
    _ = std::io::stdout().lock().write_all(text.as_bytes());
}
