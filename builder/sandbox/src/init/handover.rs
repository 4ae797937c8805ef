//! Hands a descriptor from the command's process to its parent, before the command is executed.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use crate::passing;

/// The parent's end, and the child's.
pub(super) struct Channel {
    parent: OwnedFd,
    child: OwnedFd,
}

impl Channel {
    /// Can be read when the child has given.
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }
}

/// A channel, if one is wanted; to be made before the child is.
pub(super) fn channel(wanted: bool) -> io::Result<Option<Channel>> {
    if !wanted {
        return Ok(None);
    }
    let flags = SocketFlags::CLOEXEC;
    let (parent, child) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(Some(Channel { parent, child }))
}

/// The child's side.
pub(super) fn give(channel: &Channel, what: &OwnedFd) -> io::Result<()> {
    passing::pass(&channel.child, b'1', &[what.as_fd()])
}

/// The parent's side, once the child has given.
pub(super) fn take(channel: &Channel) -> io::Result<OwnedFd> {
    let taken = passing::take(&channel.parent, RecvFlags::DONTWAIT)?;
    let found = taken.and_then(|(_, given)| given.into_iter().next());
    found.ok_or_else(|| io::Error::other("the command's process gave none"))
}
