//! Hands a descriptor from the command's process to its parent, before the command is executed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [what.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no space for a descriptor"));
    }
    let byte = [IoSlice::new(b"1")];
    _ = sendmsg(&channel.child, &byte, &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// The parent's side, once the child has given.
pub(super) fn take(channel: &Channel) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut bytes = [IoSliceMut::new(&mut byte)];
    _ = recvmsg(&channel.parent, &mut bytes, &mut ancillary, flags)?;
    let found = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    found.ok_or_else(|| io::Error::other("the command's process gave none"))
}
