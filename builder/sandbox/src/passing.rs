//! Descriptors that one process gives another over a stream socket, each time with one byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// As many are given at once at the most.
const MOST: usize = 3;

/// Gives descriptors with a byte.
pub(crate) fn pass(to: impl AsFd, byte: u8, given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !given.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(given)) {
        return Err(io::Error::other("no space for descriptors"));
    }
    let byte = [byte];
    let bytes = [IoSlice::new(&byte)];
    _ = retry_on_intr(|| sendmsg(&to, &bytes, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Takes a byte with the descriptors that come with it; nothing when the other side has hung up.
pub(crate) fn take(from: impl AsFd, flags: RecvFlags) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&from, &mut bytes, &mut ancillary, flags))?;
    let mut taken = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            taken.extend(descriptors);
        }
    }
    Ok((received.bytes > 0).then_some((byte[0], taken)))
}
