//! The helper's side: namespaces, the root, the command.

mod chroot;
mod command;
mod death_signal;
mod device;
mod execute;
mod fail;
mod handover;
mod inherited;
mod joined;
mod mask;
mod mount;
mod network;
mod outcome;
mod overlay;
mod place;
mod resource_limit;
mod root;
mod seal;
mod sweep;
mod target;
mod usage;

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::Isolation;
use crate::guard;
use crate::line::{self, JOIN, Order};
use crate::passing;
use crate::process::{Exit, Finished, HELPER_NAME, Report};
use crate::spec::Network;
use command::{Entry, Inside, Started};
use death_signal::death_signal;
use fail::{Context as _, Failure};
use joined::Joined;
pub(crate) use mount::attach;
pub use network::NAME_SERVER;
use outcome::MemoryKills;
pub(crate) use overlay::open_in_place as open_overlay;
use sweep::Sweeper;

/// Does the helper's work and ends, when the program was executed as the helper; otherwise
/// returns at once. To be called first thing in `main`, before there are threads.
pub fn run_if_helper() {
    let mut words = std::env::args_os();
    let code = match words.next() {
        Some(name) if name == HELPER_NAME => i32::from(helper().is_err()),
        Some(name) if name == guard::GUARD_NAME => guard::run(words),
        _ => return,
    };
    // SAFETY: ends the process without running exit handlers that the program may have.
    unsafe { libc::_exit(code) }
}

fn helper() -> Result<(), ()> {
    // What the caller's own caller left open is no business of a step's.
    // SAFETY: nothing here owns a descriptor yet but the standard ones.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    // SAFETY: descriptor 0 is the socket that the caller gave, and nothing else owns it.
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    die_with_caller(&channel)?;
    let (json, streams) = line::receive(&channel).map_err(drop)?;
    let order: Order<'_> = serde_json::from_slice(&json).map_err(drop)?;
    let entry = Entry {
        joins: false,
        streams,
    };
    let outcome = supervise(&order, &channel, &entry);
    let report = outcome.unwrap_or_else(Failure::into_report);
    send(&channel, &report).map_err(drop)
}

/// Has this process killed when the caller's thread ends that started it, so that no part of the
/// preparation outlives it. What was started by then is killed with this process.
fn die_with_caller(channel: &UnixStream) -> Result<(), ()> {
    death_signal(libc::SIGKILL);
    let mut polled = [PollFd::new(channel, PollFlags::RDHUP)];
    match poll(&mut polled, Some(&Timespec::default())) {
        Ok(0) => Ok(()),
        _ => Err(()),
    }
}

pub(crate) fn send(mut channel: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// Prepares the root, runs the command in it, cleans up.
fn supervise(order: &Order<'_>, caller: &UnixStream, entry: &Entry) -> Result<Report, Failure> {
    let ways = order.spec.ways;
    let sweeper = match ways.shared_proc {
        true => Some(Sweeper::new()?),
        false => None,
    };
    match ways.isolation {
        Isolation::Namespaces => in_namespaces(order, caller, entry, sweeper.as_ref()),
        Isolation::Chroot => in_chroot(order, caller, entry, sweeper.as_ref()),
    }
}

fn in_namespaces(
    order: &Order<'_>,
    caller: &UnixStream,
    entry: &Entry,
    sweeper: Option<&Sweeper>,
) -> Result<Report, Failure> {
    let spec = &*order.spec;
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if sweeper.is_none() {
        flags |= libc::CLONE_NEWPID;
    }
    if spec.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    let bridge = match spec.network {
        Network::Sandbox => Some(network::Bridge::fork()?),
        Network::Host | Network::None => None,
    };
    // SAFETY: unshare takes an integer; the helper has one thread.
    let done = unsafe { libc::unshare(flags) };
    fail::check(done).context("make namespaces")?;
    if let Some(bridge) = &bridge {
        bridge.connect(caller)?;
    }
    let memory_kills = MemoryKills::now();
    let root = root::prepare(spec)?;
    let ended = command::start(order, &root, caller, entry)
        .and_then(|started| outcome(started, caller, sweeper, (&root, &memory_kills)));
    finished(ended, root.leave())
}

fn in_chroot(
    order: &Order<'_>,
    caller: &UnixStream,
    entry: &Entry,
    sweeper: Option<&Sweeper>,
) -> Result<Report, Failure> {
    let memory_kills = MemoryKills::now();
    let mut root = chroot::prepare(&order.spec)?;
    let ended = command::start(order, &root, caller, entry).and_then(|started| {
        root.serve()?;
        outcome(started, caller, sweeper, (&root, &memory_kills))
    });
    // Also after a failure: what was lent must come back.
    finished(ended, root.leave())
}

/// Waits for the command, and has all that it started ended.
fn outcome(
    started: Started,
    caller: &UnixStream,
    sweeper: Option<&Sweeper>,
    (root, memory_kills): (&dyn Inside, &MemoryKills),
) -> Result<Exit, Failure> {
    let exit = match started {
        Started::Not(exit) => Ok(exit),
        Started::Running(child, ids) => {
            let mut joined = Joined::new(root, memory_kills);
            let ended = watch(child, caller, ids.as_ref(), &mut joined);
            joined.end();
            ended.map(|status| outcome::of(status, memory_kills))
        }
    };
    if let Some(sweeper) = sweeper {
        sweeper.end_all()?;
    }
    exit
}

/// What is told of a command, and of leaving its root: how the command failed comes first.
fn finished(ended: Result<Exit, Failure>, left: Result<(), Failure>) -> Result<Report, Failure> {
    let exit = ended?;
    left?;
    Ok(Report::Finished(Finished {
        exit,
        usage: usage::of_children(),
    }))
}

/// How the command ended; `None` when it was killed because the caller closed its end or died.
/// With the first process of a namespace the kernel ends all others, and it ends last: those that
/// were started beside it are waited for first.
fn watch(
    child: i32,
    caller: &UnixStream,
    ids: Option<&OwnedFd>,
    joined: &mut Joined<'_>,
) -> Result<Option<WaitStatus>, Failure> {
    let pid = Pid::from_raw(child).ok_or_else(|| Failure::new("fork", "no child"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the command")?;
    // From here on the caller's end of the socket says that it died, and the command is ended first.
    death_signal(0);
    let kill = |joined: &mut Joined<'_>| {
        _ = pidfd_send_signal(&pidfd, Signal::KILL);
        joined.end();
        _ = waitpid(Some(pid), WaitOptions::empty());
    };
    loop {
        let seen = wait([pidfd.as_fd(), caller.as_fd()], ids, joined)?;
        if seen.asks {
            kill(joined);
            return Err(Failure::other_ids());
        }
        joined.look(&seen.joined);
        if seen.ended {
            let status =
                waitpid(Some(pid), WaitOptions::empty()).context("wait for the command")?;
            return Ok(status.map(|(_, status)| status));
        }
        if !seen.said.is_empty() && !heed(caller, seen.said, &pidfd, joined) {
            kill(joined);
            return Ok(None);
        }
    }
}

/// Does what the caller says; whether it is still there.
fn heed(caller: &UnixStream, said: PollFlags, command: &OwnedFd, joined: &mut Joined<'_>) -> bool {
    if said.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
        return false;
    }
    match passing::take(caller, RecvFlags::DONTWAIT) {
        Ok(Some((JOIN, given))) => {
            if let Some(socket) = given.into_iter().next() {
                joined.begin(socket);
            }
            true
        }
        Ok(Some((number, _))) => {
            joined::signal(command, number);
            true
        }
        _ => false,
    }
}

/// What has happened.
struct Seen {
    /// The command has ended.
    ended: bool,
    /// What the caller's socket says.
    said: PollFlags,
    /// The command asks for ids that it must not have.
    asks: bool,
    /// What the commands beside it say.
    joined: Vec<PollFlags>,
}

/// Waits until something happens.
fn wait(
    [command, caller]: [BorrowedFd<'_>; 2],
    ids: Option<&OwnedFd>,
    joined: &Joined<'_>,
) -> Result<Seen, Failure> {
    let mut polled = vec![
        PollFd::from_borrowed_fd(command, PollFlags::IN),
        PollFd::from_borrowed_fd(caller, PollFlags::IN | PollFlags::RDHUP),
    ];
    polled.extend(joined.polled());
    let own = polled.len();
    polled.extend(ids.map(|ids| PollFd::from_borrowed_fd(ids.as_fd(), PollFlags::IN)));
    match poll(&mut polled, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error).context("watch the command"),
    }
    let seen: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
    let is_in = |seen: &PollFlags| seen.contains(PollFlags::IN);
    Ok(Seen {
        ended: is_in(&seen[0]),
        said: seen[1],
        asks: seen.get(own).is_some_and(is_in),
        joined: seen[2..own].to_vec(),
    })
}
