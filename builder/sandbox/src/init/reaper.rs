//! What PID 1 does while the command runs: reaps everything, and ends what the command left.

use rustix::process::{WaitOptions, WaitStatus, wait};

use super::command::Started;
use super::fail::{Context as _, Failure};
use crate::process::Exit;

/// Waits for the command, then ends and reaps whatever it left running.
pub(crate) fn reap(started: Started, memory_kills: Option<u64>) -> Result<Exit, Failure> {
    let exit = match started {
        Started::Not(exit) => exit,
        Started::Running(pid) => {
            let status = wait_for(pid)?;
            end_the_rest();
            outcome(status, memory_kills)
        }
    };
    while matches!(wait(WaitOptions::empty()), Ok(_) | Err(rustix::io::Errno::INTR)) {}
    Ok(exit)
}

fn wait_for(command: i32) -> Result<WaitStatus, Failure> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == command => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the command"),
        }
    }
}

fn end_the_rest() {
    // SAFETY: kill takes integers; -1 is every process of this namespace but its first.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

fn outcome(status: WaitStatus, memory_kills: Option<u64>) -> Exit {
    let killed = status.terminating_signal() == Some(libc::SIGKILL)
        || status.exit_status() == Some(128 + libc::SIGKILL);
    if killed && memory_kills.is_some() && memory_kills != self::memory_kills() {
        return Exit::OutOfMemory;
    }
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(1),
    }
}

/// How many processes the kernel has killed for memory since it started (`/proc/vmstat`,
/// `oom_kill`).
pub(crate) fn memory_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}
