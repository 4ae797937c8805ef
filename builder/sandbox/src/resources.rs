//! What a program that builds asks of the machine for itself; steps don't inherit it.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on descriptors that this process was started with.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit on descriptors as far as this process may, and has a file that grows beyond the
/// limit on sizes (`RLIMIT_FSIZE`) be an error of the write instead of the end of the process.
pub fn prepare_process() {
    // SAFETY: no handler is installed; the signal is then ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let limit = getrlimit(Resource::Nofile);
    _ = BEFORE.set(limit.current);
    if limit.current != limit.maximum {
        let current = limit.maximum;
        _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

/// The limit on descriptors that steps are to have, where it isn't this process's own.
pub(crate) fn descriptors_before() -> Option<u64> {
    BEFORE.get().copied().flatten()
}

/// How many descriptors this process may have.
#[must_use]
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}
