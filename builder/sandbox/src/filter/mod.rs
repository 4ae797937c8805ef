//! The system call filter (`seccomp(2)`): what Docker's default profile allows to a process with
//! the same capabilities, and nothing else, for 64-bit and 32-bit programs alike.
//!
//! A list of what is allowed, so that calls which kernels gain are not open to steps before somebody
//! has thought about them.

mod allowed;
mod call;
mod program;
mod refused;
mod rule;

use std::io;

pub(crate) use rule::Policy;

/// Installs the filter of a policy for this process and all it starts. Needs CAP_SYS_ADMIN over the
/// user namespace: without it the kernel would demand that set-user-ID programs give up theirs.
pub(crate) fn install(policy: Policy) -> io::Result<()> {
    if !policy.is_needed() {
        return Ok(());
    }
    let mut program = program::program(policy);
    let about = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: `about` names exactly the instructions of `program`, which lives until the call returns.
    match unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const about) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
