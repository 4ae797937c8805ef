//! Makes what a step could write read-only when its processes have ended: a descriptor of it that
//! was passed to another process changes nothing any more.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::fail::{Context as _, Failure};
use crate::mount_attributes::make_read_only;

/// How long files may take to be closed after the last process has ended: the kernel empties
/// queues of sockets later.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes mounts, and all below them, read-only.
///
/// # Errors
/// When somebody has a file in one of them open for writing.
pub(crate) fn seal<'a>(mounts: impl IntoIterator<Item = &'a OwnedFd>) -> Result<(), Failure> {
    let started = Instant::now();
    for mount in mounts {
        loop {
            match make_read_only(mount) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                other => break other.context("make what the step wrote read-only")?,
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::StillWritten);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}
