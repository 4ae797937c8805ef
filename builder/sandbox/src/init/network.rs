//! A network namespace of its own, connected by `pasta` (passt.top): a program in the caller's
//! namespace that copies between sockets and a tap device.
#![expect(clippy::disallowed_methods, reason = "files of /proc of the machine")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getpid, getppid};

use super::death_signal::death_signal;
use super::fail::{Context as _, Failure, check};

/// The address under which the command finds the caller's name server.
pub const NAME_SERVER: &str = "169.254.1.1";
/// The descriptor that pasta finds the namespace under.
const NAMESPACE: i32 = 9;
const PATIENCE: Duration = Duration::from_secs(10);

/// `pasta`, forked before the namespaces are made. Ends with this process.
pub(crate) struct Bridge {
    child: i32,
    go: File,
}

impl Bridge {
    /// Forks a child that stays in the caller's namespaces and waits.
    pub(crate) fn fork() -> Result<Self, Failure> {
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        let helper = getpid();
        // SAFETY: this process has one thread, so the child may go on as usual.
        let child = unsafe { libc::fork() };
        check(child).context("fork")?;
        if child == 0 {
            death_signal(libc::SIGKILL);
            drop(go);
            let told = File::from(wait).read(&mut [0]);
            // The helper may have ended before the line above but one.
            if told.is_ok_and(|count| count == 1) && getppid() == Some(helper) {
                become_pasta(helper.as_raw_nonzero().get());
            }
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(127) }
        }
        Ok(Self {
            child,
            go: File::from(go),
        })
    }

    /// To be called in the new namespace: waits until it has a route.
    pub(crate) fn connect(&self, caller: &UnixStream) -> Result<(), Failure> {
        (&self.go).write_all(&[1]).context("start pasta")?;
        let started = Instant::now();
        loop {
            let routes = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
            if routes.lines().count() > 1 {
                return Ok(());
            }
            let mut status = 0;
            // SAFETY: the status lives until the call returns.
            let ended = unsafe { libc::waitpid(self.child, &raw mut status, libc::WNOHANG) };
            if ended == self.child {
                let reason = "pasta ended at once: is it installed (Debian: passt), may you open /dev/net/tun, and does this machine have a network?";
                return Err(Failure::new("connect the network", reason));
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::new("connect the network", "pasta made no route"));
            }
            let mut polled = [PollFd::new(caller, PollFlags::RDHUP)];
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: 2_000_000,
            };
            if poll(&mut polled, Some(&pause)).is_ok_and(|count| count > 0) {
                return Err(Failure::new("connect the network", "the build was stopped"));
            }
        }
    }
}

/// Returns only when it fails.
fn become_pasta(helper: i32) {
    // pasta gives up the privilege to look into other processes before it opens the namespace.
    let Ok(namespace) = File::open(format!("/proc/{helper}/ns/net")) else {
        return;
    };
    // SAFETY: both are descriptor numbers of this process; the copy is kept across exec.
    if unsafe { libc::dup2(namespace.as_raw_fd(), NAMESPACE) } == NAMESPACE {
        _ = pasta().exec();
    }
}

fn pasta() -> Command {
    let mut command = Command::new("pasta");
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.args(["--config-net", "--quiet", "--foreground", "--no-map-gw"]);
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    command.args(["--dns-forward", NAME_SERVER]);
    command
        .arg("--netns")
        .arg(format!("/proc/self/fd/{NAMESPACE}"));
    // Otherwise pasta moves into a user namespace of its own, which may not enter ours, or
    // becomes a user that ours may not have.
    command.args(["--netns-only", "--runas", "0"]);
    command
}
