//! Sockets that this process was started with, as systemd gives them (`sd_listen_fds(3)`).

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;

/// The first of them.
const FIRST: RawFd = 3;
/// No more than this many are believed in.
const MAX: RawFd = 256;

/// The sockets that the variables `LISTEN_PID` and `LISTEN_FDS` say are for this process. Programs that
/// it starts don't get them. A second call gives none.
#[must_use]
pub fn take_inherited_sockets() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let count = count(
        &variable("LISTEN_PID"),
        &variable("LISTEN_FDS"),
        std::process::id(),
    );
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    (FIRST..FIRST + count).filter_map(take).collect()
}

/// How many sockets there are for the process with this id.
fn count(pid: &str, count: &str, own: u32) -> RawFd {
    let is_for_us = pid.parse() == Ok(own);
    let count: RawFd = count.parse().unwrap_or(0);
    match is_for_us && (0..=MAX).contains(&count) {
        true => count,
        false => 0,
    }
}

/// A descriptor, if it is open and a socket.
fn take(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: whoever started the process says by LISTEN_PID that it is the owner of this descriptor, so
    // nothing else in it is, and it is taken once. A number that isn't open is only asked for its flags,
    // and forgotten.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let is_socket = rustix::net::sockopt::socket_type(&socket).is_ok();
    if !is_socket || rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC).is_err() {
        std::mem::forget(socket);
        return None;
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_for_the_process_that_is_named() {
        for (pid, fds, want) in [
            ("7", "2", 2),
            ("8", "2", 0),
            ("", "2", 0),
            ("7", "", 0),
            ("7", "-1", 0),
            ("7", "100000", 0),
        ] {
            assert_eq!(count(pid, fds, 7), want, "{pid} {fds}");
        }
    }
}
