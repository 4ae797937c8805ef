//! The command line.

mod again;
mod attest_args;
mod attestations;
mod build;
mod build_args;
mod cache;
mod cache_spec;
mod call;
mod checks;
mod compat;
mod completions;
mod convert;
mod deliver;
mod doctor;
mod export;
mod fmt;
mod graph;
mod help;
mod hint;
mod image;
mod index;
mod init;
mod kaniko;
mod layers;
mod lock;
mod man;
mod output;
mod panic;
mod past;
mod policy;
#[cfg(test)]
mod reference;
mod registry;
mod remembered;
mod result;
mod sbom;
mod shell;
mod show;
mod signals;
mod source;
mod steps;
mod storage;
mod timeline;
mod verify;
mod volume;
mod watch;
mod what_if;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use show::{json_for_logs, say};
use show::{print, print_exact, print_json, print_json_text, service_command};

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
    /// List the steps of a build file, with their selectors
    Steps(Box<steps::StepsArgs>),
    /// Say why the steps of the last build ran or didn't
    Explain(past::ExplainArgs),
    /// Open a shell in a state of a build: where the last one failed, or before or after a step
    Shell(Box<shell::ShellArgs>),
    /// Print all that a step of a build wrote
    Logs(past::LogsArgs),
    /// List the latest builds
    History(past::HistoryArgs),
    /// Write a build's timeline as a page for a browser
    Timeline(timeline::TimelineArgs),
    /// Work with images in the store
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Work with the caches that steps keep
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Work with what lies in registries
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Try a policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Verify the signatures and signed attestations of an image in a registry
    Verify(verify::VerifyArgs),
    /// Look for damage in the store
    Fsck {
        /// Remove what is damaged: it is made or fetched again when it is needed
        #[arg(long)]
        repair: bool,
    },
    /// Show what the store holds
    Du {
        /// By build, of those that are remembered
        #[arg(long)]
        builds: bool,
    },
    /// Remove what is no longer wanted from the store
    Prune(storage::PruneArgs),
    /// Say what this machine allows, and what to install
    Doctor,
    /// Print the JSON schema of kiln.toml, for editors
    Schema,
    /// Write a kiln.toml for the application in a folder
    Init(init::InitArgs),
    /// Lay a kiln.toml out
    Fmt(fmt::FmtArgs),
    /// Write a Dockerfile as a kiln.toml
    Convert(convert::ConvertArgs),
    /// Pin what the mutable names in a build file stand for: images, branches, files
    Lock(Box<lock::LockArgs>),
    /// Build with the command line of kaniko's executor
    #[command(disable_help_flag = true)]
    Kaniko {
        /// Flags of the executor
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "FLAG"
        )]
        args: Vec<String>,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Print a script that completes kiln's commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

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
            Self::Answered(text) => {
                say(&format!("ERROR: {text}"));
                ExitCode::from(2)
            }
            Self::Clap(error) => {
                _ = error.print();
                ExitCode::from(if error.use_stderr() { 2 } else { 0 })
            }
        }
    }
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
    help::grouped(compat::with_accepted_flags(Cli::command()))
}

/// Reads the words after the program's name; with what is to be said of them.
fn parse(words: Vec<OsString>) -> Result<(Cli, Vec<String>), Unusable> {
    let words = compat::verbs::translate(words).map_err(Unusable::Answered)?;
    let words = std::iter::once("kiln".into()).chain(words);
    let matches = command().try_get_matches_from(words)?;
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
    if Path::new(&name).ends_with(kaniko::EXECUTOR) {
        let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        return status(kaniko::run(&args));
    }
    let cli = match parse(args.collect()) {
        Ok((cli, notes)) => {
            notes.iter().for_each(|note| say(note));
            cli
        }
        Err(unusable) => return unusable.show(),
    };
    let result = match cli.command {
        Command::Build(args) => build::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Steps(args) => steps::run(&args),
        Command::Explain(args) if args.what_if.is_empty() => past::explain(&args),
        Command::Explain(args) => what_if::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Logs(args) => past::logs(&args),
        Command::History(args) => past::history(&args),
        Command::Timeline(args) => timeline::run(&args),
        Command::Image(command) => image::run(&command),
        Command::Volume(command) => volume::run(&command),
        Command::Registry(command) => registry::run(&command),
        Command::Policy(command) => policy::run(&command),
        Command::Verify(args) => verify::run(&args),
        Command::Fsck { repair } => storage::fsck(repair),
        Command::Du { builds: true } => storage::du_by_build(),
        Command::Du { builds: false } => storage::du(),
        Command::Prune(args) => storage::prune(&args),
        Command::Doctor => doctor::run(),
        Command::Schema => {
            print_json(&serde_json::json!(kiln_frontend_toml::schema()));
            Ok(())
        }
        Command::Init(args) => init::run(&args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Kaniko { args } => kaniko::run(&args),
        Command::Man { folder } => man::run(&folder).map_err(Failed::from),
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(())
        }
    };
    status(result)
}

/// Says why a command failed.
fn status(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => match signals::status() {
            Some(status) => {
                let text = "the build was cancelled".to_owned();
                Failed { text, status }.show();
                ExitCode::from(status)
            }
            None => {
                if !failed.text.is_empty() {
                    failed.show();
                }
                ExitCode::from(failed.status)
            }
        },
    }
}

/// A failed command, ready to be shown.
struct Failed {
    text: String,
    status: u8,
}

impl Failed {
    fn show(&self) {
        if !crate::display::is_for_program() {
            return say(&self.text);
        }
        let fields = serde_json::json!({ "message": self.text, "status": self.status });
        crate::display::event("error", &fields);
    }
}

impl<E: Into<kiln::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = error.into();
        Self {
            text: crate::report::error(&error, &kiln::Texts::default()),
            status: error.exit_status(),
        }
    }
}

/// Opens the user's store.
fn open() -> Result<kiln::Engine, kiln::Error> {
    kiln::open(say)
}

/// Opens the user's store, for steps with this isolation.
fn open_isolated(choice: kiln::IsolationChoice) -> Result<kiln::Engine, kiln::Error> {
    kiln::open_isolated(choice, say)
}
