//! The command line.

mod access;
mod again;
mod attest_args;
#[cfg(feature = "bake")]
mod bake;
#[cfg(feature = "bake")]
mod bake_again;
#[cfg(feature = "bake")]
mod bake_check;
#[cfg(feature = "bake")]
mod bake_permission;
#[cfg(feature = "bake")]
mod bake_words;
mod build;
mod build_args;
mod build_report;
#[cfg(feature = "serve")]
mod buildctl;
#[cfg(feature = "serve")]
mod buildkitd;
#[cfg(feature = "serve")]
mod buildkitd_file;
mod cache;
mod cache_spec;
mod call;
mod checks;
mod child;
mod cli;
mod compat;
mod completions;
mod context_flag;
mod convert;
mod deliver;
mod delta;
mod doctor;
mod executor;
mod export;
mod failed;
mod file_settings;
mod fmt;
mod graph;
mod help;
pub(crate) mod hint;
mod image;
mod image_id;
mod image_load;
mod image_push;
mod index;
mod init;
mod kaniko;
mod layers;
mod lock;
mod man;
mod mirror;
mod mount;
#[cfg(feature = "serve")]
mod node;
mod open;
mod pairs;
mod panic;
mod past;
mod plan;
mod platform_flag;
mod policy;
mod pull;
mod ready;
#[cfg(test)]
mod reference;
mod registry;
mod resource;
mod result;
mod sbom;
#[cfg(feature = "serve")]
mod serve;
mod several;
mod shell;
mod show;
mod signals;
mod source;
mod stdin;
mod steps;
mod storage;
mod timeline;
mod verify;
mod volume;
mod wants_json;
mod watch;
mod what_if;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use cli::{Cli, Command};
use failed::{Failed, status};
use open::{config, open, open_with};
use wants_json::{is_within, wants_json};

pub(crate) use show::{json_for_logs, say};
use show::{print, print_exact, print_json, print_json_text, service_command};

/// A command line that isn't one.
enum Unusable {
    /// It is another tool's, and is answered by a sentence.
    Answered(String),
    /// Anything else, and requests for help.
    Clap(clap::Error),
}

impl Unusable {
    fn show(self) -> ExitCode {
        match self {
            Self::Answered(text) => refused(format!("ERROR: {text}")),
            Self::Clap(error) if error.use_stderr() && crate::display::is_for_program() => {
                refused(error.to_string().trim_end().to_owned())
            }
            Self::Clap(error) => {
                _ = error.print();
                ExitCode::from(if error.use_stderr() { 2 } else { 0 })
            }
        }
    }
}

/// Says why a command line can't be used.
fn refused(text: String) -> ExitCode {
    status(Err(Failed { text, status: 2 }))
}

impl From<clap::Error> for Unusable {
    fn from(error: clap::Error) -> Self {
        match compat::answer(&error) {
            Some(text) => Self::Answered(text),
            None => Self::Clap(error),
        }
    }
}

/// The whole command line, with the flags of other tools that change nothing, and its help grouped.
fn command() -> clap::Command {
    let command = compat::with_accepted_flags(Cli::command());
    help::grouped(without_empty_variables(command))
}

/// A variable that is empty says no more than one that isn't set: CI services set empty ones.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|it| it.is_empty());
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(None::<&str>),
            _ => arg,
        })
        .mut_subcommands(without_empty_variables)
}

/// Reads the words after the program's name; with what is to be said of them.
fn parse(words: Vec<OsString>) -> Result<(Cli, Vec<String>), Unusable> {
    let command = command();
    let words = compat::verbs::translate(words).map_err(Unusable::Answered)?;
    let words = compat::switch::without_values(words, &command).map_err(Unusable::Answered)?;
    let words = std::iter::once("kiln".into()).chain(words);
    let matches = command.try_get_matches_from(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let notes = match (&cli.command, matches.subcommand_matches("build")) {
        (Command::Build(args), Some(build)) if args.verbose => compat::notes(build),
        _ => Vec::new(),
    };
    Ok((cli, notes))
}

/// Runs the command line of this process.
#[must_use]
pub(crate) fn run() -> ExitCode {
    panic::explain_panics();
    kiln_sandbox::prepare_process();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if let Some(run) = other_program(Path::new(&name)) {
        let words: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        return status(run(&words));
    }
    let words: Vec<OsString> = args.collect();
    match wants_json(&compat::verbs::without_builder(words.clone())) {
        true if is_within(&words) => crate::display::go_on_in_json(),
        true => crate::display::speak_json(),
        false => {}
    }
    match parse(words) {
        Ok((cli, notes)) => {
            notes.iter().for_each(|note| say(note));
            status(run_command(cli.command))
        }
        Err(unusable) => unusable.show(),
    }
}

/// What runs the words after a program's name.
type Program = fn(&[String]) -> Result<(), Failed>;

/// What the binary does when it goes by another name.
fn other_program(name: &Path) -> Option<Program> {
    #[cfg(feature = "serve")]
    for (own, run) in [
        (buildkitd::NAME, buildkitd::run as Program),
        (buildctl::NAME, buildctl::run),
    ] {
        if name.ends_with(own) {
            return Some(run);
        }
    }
    name.ends_with(kaniko::EXECUTOR)
        .then_some(kaniko::run as Program)
}

fn run_command(command: Command) -> Result<(), Failed> {
    match command {
        Command::Build(args) => build::run(&args),
        #[cfg(feature = "bake")]
        Command::Bake(args) => bake::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Steps(args) => steps::run(&args),
        Command::Explain(args) if args.what_if.is_empty() => past::explain(&args),
        Command::Explain(args) => what_if::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Logs(args) => past::logs(&args),
        Command::History(args) => past::history(&args),
        Command::Timeline(args) => timeline::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Delta(args) => delta::run(&args),
        Command::Mirror(args) => mirror::run(&args),
        Command::Volume(command) => volume::run(&command),
        Command::Registry(args) => registry::run(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Verify(args) => verify::run(&args),
        Command::Fsck { repair } => storage::fsck(repair),
        Command::Du { builds: true } => storage::du_by_build(),
        Command::Du { builds: false } => storage::du(),
        Command::Prune(args) => storage::prune(&args),
        Command::Doctor => doctor::run(),
        Command::Schema => {
            print_json_text(kiln_frontend_toml::schema());
            Ok(())
        }
        Command::Init(args) => init::run(&args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Convert(args) => convert::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args),
        Command::Kaniko { args } => kaniko::run(&args),
        Command::Man { directory } => man::run(&directory).map_err(Failed::from),
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(())
        }
    }
}
