//! The worker's side: the program that an action runs. It makes a store of its own in the action's
//! directory, brings the ordered trees into it, runs the steps as on any machine, and leaves what
//! they changed in `out`. Nothing stays behind it.

mod memory;
mod packed;
mod scratch;
mod steps;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;

use kiln_sandbox::{Isolation, IsolationChoice, Privileges, enter_user_namespace};
use kiln_tree::host;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::order::{HELPER, ORDER, Order, OrderedIds, VERSION};
use crate::report::{OUT, REPORT, Report, StepEnd, StepReport};
use scratch::Scratch;

/// How the helper ends. The report says the same; servers show this.
const ALL_RAN: i32 = 0;
const A_STEP_FAILED: i32 = 1;
const REFUSED: i32 = 125;

/// Does a worker's work and ends, when the program was executed as a worker's helper; otherwise
/// returns at once. To be called first thing in `main`, before there are threads.
pub fn run_if_worker() {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(HELPER)) {
        std::process::exit(work());
    }
}

fn work() -> i32 {
    // A worker that gives an action up kills what it started, not always what that started.
    _ = set_parent_process_death_signal(Some(Signal::KILL));
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let report = Report::new(host, run());
    let code = match (&report.refused, report.steps.last()) {
        (Some(_), _) | (None, None) => REFUSED,
        (None, Some(step)) => match step.end {
            StepEnd::Ran { .. } => ALL_RAN,
            StepEnd::Failed(_) => A_STEP_FAILED,
            StepEnd::Unable { .. } => REFUSED,
        },
    };
    match write(&report) {
        Ok(()) => code,
        Err(reason) => {
            // The action's standard error is what is left to say it.
            let text = format!("kiln can't write its report: {reason}\n");
            _ = std::io::stderr().write_all(text.as_bytes());
            REFUSED
        }
    }
}

fn run() -> Result<Vec<StepReport>, String> {
    let order = read_order()?;
    let only = IsolationChoice::Only(Isolation::Namespaces);
    let privileges = enter_user_namespace(only).map_err(|error| error.to_string())?;
    check(&privileges, order.ids)?;
    run_steps(&order, &privileges)
}

/// Runs the steps; once more on the disk when memory was too small for what they write.
fn run_steps(order: &Order, privileges: &Privileges) -> Result<Vec<StepReport>, String> {
    let scratch = Scratch::new(privileges.identity, order.unpacked())?;
    let ran = steps::run(order, privileges.clone(), &scratch);
    let has_failed = match &ran {
        Ok(steps) => steps.len() < order.steps.len() || steps.iter().any(has_failed),
        Err(_) => true,
    };
    if !(has_failed && scratch.may_be_larger() && scratch.is_tight()) {
        return ran;
    }
    drop((scratch, ran));
    kiln_tree::remove_all(Path::new(OUT));
    steps::run(order, privileges.clone(), &Scratch::on_disk()?)
}

fn has_failed(step: &StepReport) -> bool {
    !step.end.is_success()
}

fn read_order() -> Result<Order, String> {
    let bytes = host::read(ORDER).map_err(|error| format!("{ORDER} can't be read: {error}"))?;
    let order: Order = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{ORDER} can't be understood: {error}"))?;
    match order.version {
        VERSION => Ok(order),
        other => Err(format!(
            "{ORDER} has version {other}, and this kiln knows {VERSION}"
        )),
    }
}

/// Whether steps can be run here as they would be where they come from.
fn check(privileges: &Privileges, ids: OrderedIds) -> Result<(), String> {
    if let Err(error) = privileges.ways() {
        return Err(match rustix::process::geteuid().is_root() {
            true => format!("{error}{USER_ZERO}"),
            false => error.to_string(),
        });
    }
    if ids == OrderedIds::All && !privileges.identity.gives_away() {
        return Err(ONE_ID.to_owned());
    }
    Ok(())
}

/// What may help where a sandbox's user 0 may not map itself.
const USER_ZERO: &str =
    "; a worker of buildbox can with property.unixUID=1000,property.unixGID=1000";
/// Why a worker's results would be others.
const ONE_ID: &str = "it has one user id: give its user subordinate ids (newuidmap, /etc/subuid and /etc/subgid), or leave ids=all out";

fn write(report: &Report) -> std::io::Result<()> {
    host::create_dir_all(OUT)?;
    let text = serde_json::to_vec(report)?;
    host::write(Path::new(OUT).join(REPORT), text)
}
