//! What a caller and a helper say to each other: the caller's side of their socket.
//!
//! The caller begins with a byte that brings descriptors, the length of the order in four bytes
//! (little endian), and the order as JSON. Afterwards each byte says something: [`JOIN`] brings
//! another such socket, for a command that is started in the same root; a smaller one is a signal for
//! the command. The helper answers once, with a report as a line of JSON. A caller that closes its
//! end has the command killed.

use std::borrow::Cow;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::process::{Finished, Report};
use crate::resources::descriptors_before;
use crate::{SandboxError, Spec, passing};

/// Brings a socket for another command.
pub(crate) const JOIN: u8 = 255;
/// Brings what an order needs.
const ORDER: u8 = 0;
/// An order is no longer, in bytes.
const MAX_ORDER: u32 = 64 << 20;

/// What the helper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order<'a> {
    pub(crate) spec: Cow<'a, Spec>,
    /// The limit on descriptors, where the caller's own isn't meant for commands.
    pub(crate) descriptors: Option<u64>,
}

/// What a process reads from and writes to.
#[derive(Debug)]
pub struct Streams {
    /// Its standard input; without one it is empty.
    pub input: Option<OwnedFd>,
    /// Its standard output, or its terminal, for a [`Spec`] with `terminal`.
    pub output: OwnedFd,
    /// Its standard error.
    pub errors: OwnedFd,
}

/// Sends an order.
pub(crate) fn send(
    mut channel: &UnixStream,
    spec: &Spec,
    given: &[BorrowedFd<'_>],
) -> Result<(), SandboxError> {
    let order = Order {
        spec: Cow::Borrowed(spec),
        descriptors: descriptors_before(),
    };
    let json = Zeroizing::new(serde_json::to_vec(&order).map_err(io::Error::other)?);
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let sent = passing::pass(channel, ORDER, given)
        .and_then(|()| channel.write_all(&length.to_le_bytes()))
        .and_then(|()| channel.write_all(&json));
    match sent {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The helper's side: the order, as JSON, and what came with it. Nothing beyond it is read.
pub(crate) fn receive(mut channel: &UnixStream) -> io::Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)> {
    let taken = passing::take(channel, rustix::net::RecvFlags::empty())?;
    let (_, given) = taken.ok_or_else(|| io::Error::other("the caller has hung up"))?;
    let mut length = [0; 4];
    channel.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ORDER {
        return Err(io::Error::other("an order that is too long"));
    }
    let mut json = Zeroizing::new(vec![0; length as usize]);
    channel.read_exact(&mut json)?;
    Ok((json, given))
}

/// The connection to a helper.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) channel: UnixStream,
    pub(crate) helper: OwnedFd,
    pub(crate) cut: AtomicBool,
}

/// Ends a process from another thread.
#[derive(Clone, Debug)]
pub struct Killer(pub(crate) Arc<Line>);

/// How long a helper may take to end the command and clean up.
const GRACE: Duration = Duration::from_secs(2);

impl Killer {
    /// Kills the process and all it started.
    pub fn kill(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
        _ = self.0.channel.shutdown(Shutdown::Write);
        let late = self.clone();
        let waiting = std::thread::Builder::new().spawn(move || late.kill_helper(GRACE));
        if waiting.is_err() {
            self.kill_helper(Duration::ZERO);
        }
    }

    /// Kills the helper, and so the command with it, if it hasn't ended by then.
    fn kill_helper(&self, grace: Duration) {
        let limit = Timespec::try_from(grace).unwrap_or_default();
        let mut polled = [PollFd::new(&self.0.helper, PollFlags::IN)];
        if poll(&mut polled, Some(&limit)) == Ok(0) {
            _ = pidfd_send_signal(&self.0.helper, Signal::KILL);
        }
    }

    /// Sends the process a signal by its number. One that has ended gets none.
    pub fn signal(&self, number: u8) {
        _ = signal(&self.0.channel, number);
    }

    /// Starts another process in the root of this one, with the mounts, the network and the
    /// processes that this one sees: as `spec` says, but for those. It ends with this one at the latest.
    ///
    /// # Errors
    /// When this one has ended.
    pub fn join(&self, spec: &Spec, streams: &Streams) -> Result<Joined, SandboxError> {
        let (ours, theirs) = UnixStream::pair()?;
        passing::pass(&self.0.channel, JOIN, &[theirs.as_fd()])?;
        drop(theirs);
        let mut given = vec![streams.output.as_fd(), streams.errors.as_fd()];
        given.extend(streams.input.as_ref().map(OwnedFd::as_fd));
        send(&ours, spec, &given)?;
        Ok(Joined(Arc::new(ours)))
    }
}

fn signal(channel: &UnixStream, number: u8) -> io::Result<()> {
    match number {
        1..=64 => passing::pass(channel, number, &[]),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A process in the root of another one.
#[derive(Clone, Debug)]
pub struct Joined(Arc<UnixStream>);

impl Joined {
    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn wait(&self) -> Result<Finished, SandboxError> {
        match report(&self.0)? {
            Some(report) => report.into_finished(),
            // The other one has ended, and all with it.
            None => Ok(Finished::killed()),
        }
    }

    /// Sends it a signal by its number.
    pub fn signal(&self, number: u8) {
        _ = signal(&self.0, number);
    }

    /// Kills it.
    pub fn kill(&self) {
        _ = self.0.shutdown(Shutdown::Write);
    }
}

/// The helper's answer; nothing when it has ended without one.
pub(crate) fn report(channel: &UnixStream) -> io::Result<Option<Report>> {
    let mut line = String::new();
    BufReader::new(channel).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).ok())
}
