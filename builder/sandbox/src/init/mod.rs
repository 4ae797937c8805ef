//! The helper's side: namespaces, PID 1, the command.

mod command;
mod device;
mod fail;
mod mask;
mod mount;
mod overlay;
mod reaper;
mod root;
mod target;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use crate::process::{Exit, Finished, Report};
use crate::spec::Network;
use crate::Spec;
use fail::{Context as _, Failure};

/// The name under which a program is executed again to be the helper.
pub const HELPER_NAME: &str = "kiln-sandbox-init";

/// Does the helper's work and ends, when the program was executed as the helper; otherwise
/// returns at once. To be called first thing in `main`, before there are threads.
pub fn run_if_helper() {
    let name = std::env::args_os().next();
    if name.is_some_and(|name| name == HELPER_NAME) {
        let code = i32::from(helper().is_err());
        // SAFETY: ends the process without running exit handlers that the program may have.
        unsafe { libc::_exit(code) }
    }
}

fn helper() -> Result<(), ()> {
    // SAFETY: descriptor 0 is the socket that the caller gave, and nothing else owns it.
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let mut line = String::new();
    BufReader::new(&channel).read_line(&mut line).map_err(drop)?;
    let spec: Spec = serde_json::from_str(&line).map_err(drop)?;
    let outcome = supervise(&spec, &channel);
    let report = outcome.unwrap_or_else(|failure| failure.into_report());
    send(&channel, &report).map_err(drop)
}

pub(crate) fn send(mut channel: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// Makes the namespaces and PID 1, and passes PID 1's report on.
fn supervise(spec: &Spec, caller: &UnixStream) -> Result<Report, Failure> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spec.network == Network::None {
        flags |= libc::CLONE_NEWNET;
    }
    // SAFETY: unshare takes an integer; the helper has one thread.
    let done = unsafe { libc::unshare(flags) };
    fail::check(done).context("make namespaces")?;
    let (ours, theirs) = UnixStream::pair().context("make a socket")?;
    // SAFETY: the helper has one thread, so the child may go on as usual.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("fork"),
        0 => {
            drop(ours);
            first_process(spec, theirs)
        }
        child => {
            drop(theirs);
            watch(child, caller, &ours)
        }
    }
}

/// PID 1 of the new process namespace.
fn first_process(spec: &Spec, channel: UnixStream) -> ! {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let outcome = root::run(spec);
    let report = outcome.map_or_else(Failure::into_report, Report::Finished);
    _ = send(&channel, &report);
    drop(channel);
    // SAFETY: ends PID 1, and with it whatever is left in its namespace.
    unsafe { libc::_exit(0) }
}

/// Waits until PID 1 ends; kills it when the caller closes its end or dies.
fn watch(child: i32, caller: &UnixStream, channel: &UnixStream) -> Result<Report, Failure> {
    let pid = Pid::from_raw(child).ok_or_else(|| Failure::new("fork", "no child"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the sandbox")?;
    let mut killed = false;
    loop {
        let wanted = if killed { PollFlags::empty() } else { PollFlags::IN | PollFlags::RDHUP };
        let mut polled = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(caller.as_fd(), wanted),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("watch the sandbox"),
        }
        let (ended, hung_up) = (polled[0].revents(), polled[1].revents());
        if ended.contains(PollFlags::IN) {
            break;
        }
        if !killed && !hung_up.is_empty() {
            _ = pidfd_send_signal(&pidfd, Signal::KILL);
            killed = true;
        }
        if killed {
            // The caller may be gone altogether: its end of the socket would wake us for ever.
            _ = waitpid(Some(pid), WaitOptions::empty());
            return Ok(Report::Finished(Finished { exit: Exit::Killed, mount_parents: Vec::new() }));
        }
    }
    _ = waitpid(Some(pid), WaitOptions::empty());
    let mut line = String::new();
    BufReader::new(channel).read_line(&mut line).context("read the sandbox's report")?;
    serde_json::from_str(&line).map_err(|_| Failure::new("run the sandbox", "its first process was killed"))
}
