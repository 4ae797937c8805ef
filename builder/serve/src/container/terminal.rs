//! A terminal for a process, of which the client has the other side.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The client's side.
#[derive(Clone, Debug)]
pub(super) struct Terminal(Arc<OwnedFd>);

impl Terminal {
    /// A terminal, and the process's side of it.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&own)?;
        unlockpt(&own)?;
        let name = ptsname(&own, Vec::new())?;
        let path = OsStr::from_bytes(name.as_bytes());
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let other = rustix::fs::open(path, flags, Mode::empty())?;
        Ok((Self(Arc::new(own)), other))
    }

    /// The side as a file.
    pub(super) fn file(&self) -> io::Result<File> {
        self.0.try_clone().map(File::from)
    }

    /// Tells the process how large what the user sees is.
    pub(super) fn resize(&self, rows: u32, columns: u32) {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: cells(rows),
            ws_col: cells(columns),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        _ = tcsetwinsize(&*self.0, size);
    }
}
