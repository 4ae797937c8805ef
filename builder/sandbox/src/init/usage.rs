//! What the command used of the machine.

use std::time::Duration;

use crate::process::Usage;

/// What the children that ended, and theirs, have used: getrusage(2).
pub(crate) fn of_children() -> Usage {
    // SAFETY: rusage is a struct of integers, for which zeroes are a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole rusage, which lives until the call returns.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used) } != 0 {
        return Usage::default();
    }
    Usage {
        cpu: duration(used.ru_utime) + duration(used.ru_stime),
        // Linux counts in KiB.
        memory: used.ru_maxrss.unsigned_abs() * 1024,
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u32::try_from(time.tv_usec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), micros * 1000)
}
