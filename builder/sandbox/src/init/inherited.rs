//! What a command must not inherit from the program that builds.

use std::io;

use super::fail::check;

/// Gives every signal its default action, and blocks none: the builder ignores SIGPIPE and SIGXFSZ,
/// and whoever started it may have had it ignore others.
pub(crate) fn reset_signals() {
    // SAFETY: sigset_t is plain data, for which zeroes are a value; it is then filled by the call
    // meant for that, and lives until sigprocmask returns.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    // Zeroes are the default action in the kernel's own structure, which has 32 bytes at the most. The
    // C library refuses to set the two signals that it keeps to itself.
    let default = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: the structure lives until the call returns and names no handler; the last argument
        // is the size of the kernel's set of signals. Numbers that can't be set are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        };
    }
}

/// Lowers the limit on descriptors to what it was before the builder raised it.
pub(crate) fn reset_descriptors(soft: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit lives until the call returns.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}
