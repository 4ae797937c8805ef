//! `kiln policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kiln::{Policy, SourceName};

use super::{Failed, print};

/// The commands of `kiln policy`.
#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Say what a policy decides of sources, and whether its own tests pass; nothing is fetched
    Test(TestArgs),
}

/// The flags of `kiln policy test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// The policy
    file: PathBuf,
    /// Sources: an image's name, docker-image://NAME, git://HOST/PATH#REFERENCE or https://…
    sources: Vec<String>,
    /// Take the sources to be in kiln.lock
    #[arg(long)]
    pinned: bool,
}

/// Runs `kiln policy`.
pub(crate) fn run(command: &PolicyCommand) -> Result<(), Failed> {
    let PolicyCommand::Test(args) = command;
    let policy = Policy::read(&args.file)?;
    let mut denied = 0;
    for source in &args.sources {
        let (is_denied, line) = decide(&policy, &SourceName::parse(source, args.pinned));
        denied += usize::from(is_denied);
        print(&format!("{line}\n"));
    }
    let rules = policy.sources();
    let failures = policy.tests().iter().filter_map(|test| test.failure(rules));
    let failures: Vec<String> = failures.collect();
    for failure in &failures {
        print(&format!("FAILED  {failure}\n"));
    }
    if !policy.tests().is_empty() {
        let passed = policy.tests().len() - failures.len();
        print(&format!(
            "{passed} of {} tests passed\n",
            policy.tests().len()
        ));
    }
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let text = match (failures.len(), denied) {
        (0, 0) => return Ok(()),
        (0, denied) => format!("the policy denies {denied} source{}", plural(denied)),
        (failed, _) => format!("{failed} test{} of the policy failed", plural(failed)),
    };
    Err(Failed { text, status: 1 })
}

/// Whether a source is denied, and how that is said.
fn decide(policy: &Policy, source: &SourceName) -> (bool, String) {
    match policy.sources().check(source) {
        Err(rule) => (true, format!("denied   {source}: {rule}")),
        Ok(None) => (false, format!("allowed  {source}")),
        Ok(Some(wanted)) => {
            let what = match wanted.attestations.as_slice() {
                [] => String::new(),
                kinds => format!(" of its {}", kinds.join(", ")),
            };
            let key = wanted.shown();
            (
                false,
                format!("allowed  {source} with a signature{what} by {key}"),
            )
        }
    }
}
