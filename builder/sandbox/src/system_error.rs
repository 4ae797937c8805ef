//! Errors of system calls that are made without a wrapper.

use std::io;

/// The system error of a call that returned -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
