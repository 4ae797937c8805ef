//! Commands that are started in the root of another one while that runs: they see its mounts, its
//! network and its processes, and end with it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

use super::command::{self, Entry, Inside, Started};
use super::fail::{Context as _, Failure};
use super::outcome::{self, MemoryKills};
use super::{send, usage};
use crate::line::{self, Order};
use crate::passing;
use crate::process::{Exit, Finished, Report};

/// A command that has been started in the root.
struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    /// Who asked for it.
    caller: UnixStream,
}

/// The commands beside the first one.
pub(crate) struct Joined<'a> {
    root: &'a dyn Inside,
    memory_kills: &'a MemoryKills,
    running: Vec<Running>,
}

impl<'a> Joined<'a> {
    pub(crate) fn new(root: &'a dyn Inside, memory_kills: &'a MemoryKills) -> Self {
        Self {
            root,
            memory_kills,
            running: Vec::new(),
        }
    }

    /// What is to be waited for: two of each command.
    pub(crate) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.running.iter().flat_map(|one| {
            [
                PollFd::from_borrowed_fd(one.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(one.caller.as_fd(), PollFlags::IN | PollFlags::RDHUP),
            ]
        })
    }

    /// Starts the command that comes over a socket, or says there why it can't.
    pub(crate) fn begin(&mut self, socket: OwnedFd) {
        let caller = UnixStream::from(socket);
        match self.start(&caller) {
            Ok(Ok((pid, pidfd))) => self.running.push(Running { pid, pidfd, caller }),
            Ok(Err(exit)) => tell(&caller, exit),
            Err(failure) => _ = send(&caller, &failure.into_report()),
        }
    }

    fn start(&self, caller: &UnixStream) -> Result<Result<(Pid, OwnedFd), Exit>, Failure> {
        let (json, streams) = line::receive(caller).context("read what to run")?;
        let order: Order<'_> = serde_json::from_slice(&json)
            .map_err(|error| Failure::new("read what to run", error.to_string()))?;
        let entry = Entry {
            joins: true,
            streams,
        };
        match command::start(&order, self.root, caller, &entry)? {
            Started::Not(exit) => Ok(Err(exit)),
            Started::Running(child, _) => {
                let pid = Pid::from_raw(child).ok_or_else(|| Failure::new("fork", "no child"))?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the command")?;
                Ok(Ok((pid, pidfd)))
            }
        }
    }

    /// Does what was waited for: `seen` is of what [`Self::polled`] gave.
    pub(crate) fn look(&mut self, seen: &[PollFlags]) {
        let mut seen = seen.chunks_exact(2);
        let memory_kills = self.memory_kills;
        self.running.retain(|one| {
            let Some([ended, said]) = seen.next() else {
                return true;
            };
            if ended.contains(PollFlags::IN) {
                one.end(memory_kills);
                return false;
            }
            if !said.is_empty() && !one.heed(*said) {
                one.kill();
                one.end(memory_kills);
                return false;
            }
            true
        });
    }

    /// Ends all of them.
    pub(crate) fn end(&mut self) {
        for one in self.running.drain(..) {
            one.kill();
            one.end(self.memory_kills);
        }
    }
}

impl Running {
    /// Does what its caller says; whether the caller is still there.
    fn heed(&self, said: PollFlags) -> bool {
        if said.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        match passing::take(&self.caller, RecvFlags::DONTWAIT) {
            Ok(Some((number, _))) => {
                signal(&self.pidfd, number);
                true
            }
            _ => false,
        }
    }

    fn kill(&self) {
        _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for it and tells how it ended.
    fn end(&self, memory_kills: &MemoryKills) {
        let status = waitpid(Some(self.pid), WaitOptions::empty());
        let status = status.ok().flatten().map(|(_, status)| status);
        tell(&self.caller, outcome::of(status, memory_kills));
    }
}

fn tell(caller: &UnixStream, exit: Exit) {
    let usage = usage::of_children();
    // A caller that has gone needs to know nothing.
    _ = send(caller, &Report::Finished(Finished { exit, usage }));
}

/// Sends a command a signal by its number, if there is one.
pub(crate) fn signal(pidfd: &OwnedFd, number: u8) {
    if let Some(signal) = Signal::from_named_raw(i32::from(number)) {
        _ = pidfd_send_signal(pidfd, signal);
    }
}
