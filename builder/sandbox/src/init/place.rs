//! Opens what is to be mounted: below a directory that only the caller names, without following a
//! link, so that nothing that a step or another build exchanges meanwhile leads elsewhere.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::Place;

/// A descriptor that only names the file or directory at `place`.
pub(crate) fn open(place: &Place) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, &place.directory, flags, Mode::empty())?;
    if place.inside.as_os_str().is_empty() {
        return Ok(directory);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(&directory, &place.inside, flags, Mode::empty(), resolve)
}
