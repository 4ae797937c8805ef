//! How the command ended.

use rustix::process::WaitStatus;

use crate::process::Exit;

/// What a wait status means; `None`: it was killed on request.
pub(crate) fn of(status: Option<WaitStatus>, memory_kills: Option<u64>) -> Exit {
    let Some(status) = status else {
        return Exit::Killed;
    };
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
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}
