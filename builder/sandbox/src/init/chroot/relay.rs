//! What serves a command from outside its root: named pipes that lead to its output, and sockets
//! that lead to an SSH agent. Threads, so started only when nothing is forked any more.
#![expect(
    clippy::disallowed_methods,
    reason = "the socket is made in a directory that no step has seen yet"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// One of the command's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What leads out of a root.
#[derive(Default)]
pub(super) struct Relays {
    streams: Vec<(OwnedFd, Stream)>,
    sockets: Vec<(PathBuf, PathBuf)>,
    running: Vec<(JoinHandle<()>, OwnedFd)>,
}

impl Relays {
    /// Relays what is written to a named pipe.
    pub(super) fn stream(&mut self, pipe: OwnedFd, stream: Stream) {
        self.streams.push((pipe, stream));
    }

    /// Relays connections to a new socket at `place` to the one at `to`.
    pub(super) fn socket(&mut self, place: PathBuf, to: PathBuf) {
        self.sockets.push((place, to));
    }

    pub(super) fn start(&mut self) -> io::Result<()> {
        for (pipe, stream) in self.streams.drain(..) {
            let (ended, end) = pipe_with(PipeFlags::CLOEXEC)?;
            let thread = std::thread::Builder::new().spawn(move || match stream {
                Stream::Stdout => copy_until(pipe, &ended, &mut io::stdout()),
                Stream::Stderr => copy_until(pipe, &ended, &mut io::stderr()),
            })?;
            self.running.push((thread, end));
        }
        for (place, to) in self.sockets.drain(..) {
            let listener = UnixListener::bind(&place)?;
            _ = std::thread::Builder::new().spawn(move || serve(&listener, &to))?;
        }
        Ok(())
    }

    /// Waits until all that was written has been relayed. Sockets end with this process.
    pub(super) fn finish(self) {
        for (thread, end) in self.running {
            drop(end);
            _ = thread.join();
        }
    }
}

/// Copies from a pipe that never ends by itself; when `ended` is closed, only what is there still.
fn copy_until(pipe: OwnedFd, ended: &OwnedFd, to: &mut dyn Write) {
    let mut pipe = File::from(pipe);
    let mut buffer = vec![0; 64 * 1024];
    let mut last = false;
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::empty()),
        ];
        let wait = if last {
            Some(Timespec::default())
        } else {
            None
        };
        let ready = match poll(&mut polled, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.is_ok(),
        };
        let (written, closed) = (polled[0].revents(), polled[1].revents());
        if written.contains(PollFlags::IN) {
            let Ok(count) = pipe.read(&mut buffer) else {
                return;
            };
            if to
                .write_all(&buffer[..count])
                .and_then(|()| to.flush())
                .is_err()
            {
                return;
            }
        } else if last || !ready {
            return;
        }
        last = last || !closed.is_empty();
    }
}

fn serve(listener: &UnixListener, to: &std::path::Path) {
    for connection in listener.incoming().flatten() {
        let Ok(agent) = UnixStream::connect(to) else {
            continue;
        };
        let (Ok(from_client), Ok(from_agent)) = (connection.try_clone(), agent.try_clone()) else {
            continue;
        };
        for (from, to) in [(from_client, agent), (from_agent, connection)] {
            std::thread::spawn(move || pass(&from, &to));
        }
    }
}

fn pass(mut from: &UnixStream, mut to: &UnixStream) {
    _ = io::copy(&mut from, &mut to);
    _ = to.shutdown(Shutdown::Write);
}
