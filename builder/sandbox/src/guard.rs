//! Runs a program of the machine (such as `git`) so that it, and all that it starts, ends with this
//! process, however this process ends.
//!
//! A program that is killed leaves its own children behind. So it runs below a guard: the running
//! program executed again under the name [`GUARD_NAME`], which becomes the parent of whatever is
//! left behind. The guard holds one end of a socket as its standard input; when the other end is
//! closed, by request or because its owner died, it kills everything below itself. When the program
//! ends by itself, what it left running is killed as well, and the guard ends as the program did.
#![expect(clippy::disallowed_methods, reason = "files of /proc")]

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open,
    set_child_subreaper, setsid, waitpid,
};

/// The name under which a program is executed again to be a guard.
pub(crate) const GUARD_NAME: &str = "kiln-guard";

/// Ends a guarded program. Dropped, it does so as well.
#[derive(Debug)]
pub struct Lifeline(UnixStream);

impl Lifeline {
    /// Kills the program and all that it started.
    pub fn cut(&self) {
        _ = self.0.shutdown(Shutdown::Both);
    }
}

/// `command` below a guard, which `helper` (a program that calls
/// [`run_if_helper`](crate::run_if_helper)) becomes. The program's standard input is empty; what it
/// is to write to is set on the command returned.
pub(crate) fn guarded(helper: &Path, command: &Command) -> io::Result<(Command, Lifeline)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut guard = Command::new(helper);
    guard
        .arg0(GUARD_NAME)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(OwnedFd::from(theirs));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guard.env(name, value),
            None => guard.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        guard.current_dir(directory);
    }
    Ok((guard, Lifeline(ours)))
}

/// The guard's work, and its exit status.
pub(crate) fn run(mut words: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    // Ctrl-C in a terminal is for the caller, which cuts the lifeline; and nobody is asked for a
    // password in the middle of a display.
    _ = setsid();
    // What is left behind by its parent becomes this process's child.
    let adopting = set_child_subreaper(Pid::from_raw(1));
    let (Some(program), Ok(())) = (words.next(), adopting) else {
        return CANNOT_RUN;
    };
    let Ok(lifeline) = io::stdin().as_fd().try_clone_to_owned() else {
        return CANNOT_RUN;
    };
    let started = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            use io::Write as _;
            let name = program.display();
            _ = writeln!(io::stderr(), "{name}: {error}");
            return if error.kind() == io::ErrorKind::NotFound {
                NOT_FOUND
            } else {
                CANNOT_RUN
            };
        }
    };
    let ended = watch(&mut child, &lifeline);
    sweep(Pid::from_child(&child));
    match ended {
        Some(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        None => 128 + libc::SIGKILL,
    }
}

/// As shells have it.
const NOT_FOUND: i32 = 127;
const CANNOT_RUN: i32 = 126;

/// How the child ended; `None` when the other end of the lifeline was closed before.
fn watch(child: &mut Child, lifeline: &OwnedFd) -> Option<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()?;
    loop {
        let mut polled = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(lifeline, PollFlags::RDHUP),
        ];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
            Ok(_) if !polled[0].revents().is_empty() => return child.wait().ok(),
            Ok(_) => return None,
        }
    }
}

/// Kills and reaps all children, and those that become children by it, until there are none.
fn sweep(group: Pid) {
    _ = kill_process_group(group, Signal::KILL);
    let own = getpid().as_raw_nonzero();
    let list = format!("/proc/{own}/task/{own}/children");
    loop {
        // A kernel without this file leaves those that moved to a group of their own.
        let Ok(children) = std::fs::read_to_string(&list) else {
            return;
        };
        for child in children.split_whitespace() {
            let pid = child.parse().ok().and_then(Pid::from_raw);
            _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        if waitpid(None, WaitOptions::empty()).is_err() {
            return;
        }
    }
}
