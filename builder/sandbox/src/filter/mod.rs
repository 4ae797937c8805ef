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
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use crate::OwnerCalls;
pub(crate) use rule::Policy;

/// Installs the filter of a policy for this process and all it starts. Needs CAP_SYS_ADMIN over the
/// user namespace: without it the kernel would demand that set-user-ID programs give up theirs. Where
/// the policy tells of ids, what can be read when one was asked for.
pub(crate) fn install(policy: Policy) -> io::Result<Option<OwnedFd>> {
    if !policy.is_needed() {
        return Ok(None);
    }
    let mut program = program::program(policy);
    let about = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let listens = policy.owner_calls == OwnerCalls::Refused;
    let operation = libc::SECCOMP_SET_MODE_FILTER;
    let flags = match listens {
        true => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        false => 0,
    };
    // SAFETY: `about` names exactly the instructions of `program`, which lives until the call returns.
    match unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const about) } {
        0 if !listens => Ok(None),
        // SAFETY: the call has just made this descriptor, and nothing else owns it.
        listener if listener > 0 => Ok(Some(unsafe {
            OwnedFd::from_raw_fd(RawFd::try_from(listener).map_err(io::Error::other)?)
        })),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
