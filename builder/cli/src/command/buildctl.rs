//! The program name `buildctl`: what buildx runs of it beside a server, to reach it (`dial-stdio`) and to
//! see whether it is ready (`debug workers`).

use std::time::Duration;

use clap::{Parser, Subcommand};
use kiln_serve::{Address, ClientError, Worker, dial_stdio, workers};

use super::{Failed, print};

/// The name that the program is called by.
pub(crate) const NAME: &str = "buildctl";

/// Connects to a server of BuildKit's API
#[derive(Parser, Debug)]
#[command(
    name = "buildctl",
    version,
    after_help = "Builds are started by docker buildx, or by BuildKit's own buildctl."
)]
struct Flags {
    /// Where the server listens: unix://PATH or tcp://IP:PORT
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "BUILDKIT_HOST",
        default_value = "unix:///run/buildkit/buildkitd.sock"
    )]
    addr: Address,
    /// How long an answer is waited for, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5)]
    timeout: u64,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Carry a connection to the server over standard input and output
    DialStdio,
    /// Ask the server about itself
    #[command(subcommand)]
    Debug(Debug),
}

#[derive(Subcommand, Debug)]
enum Debug {
    /// List who builds
    Workers,
}

/// Runs the program with the words after its name.
pub(crate) fn run(words: &[String]) -> Result<(), Failed> {
    let words = [NAME].into_iter().chain(words.iter().map(String::as_str));
    let flags = match Flags::try_parse_from(words) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    match flags.command {
        Verb::DialStdio => dial_stdio(&flags.addr).map_err(|error| failed(&error)),
        Verb::Debug(Debug::Workers) => {
            let patience = Duration::from_secs(flags.timeout);
            let workers = workers(&flags.addr, patience).map_err(|error| failed(&error))?;
            print(&table(&workers));
            Ok(())
        }
    }
}

fn failed(error: &ClientError) -> Failed {
    Failed {
        text: format!("ERROR: {error}"),
        status: 1,
    }
}

fn table(workers: &[Worker]) -> String {
    let mut text = "ID\t\t\t\tPLATFORMS\n".to_owned();
    for worker in workers {
        text.push_str(&format!("{}\t{}\n", worker.id, worker.platforms.join(",")));
    }
    text
}
