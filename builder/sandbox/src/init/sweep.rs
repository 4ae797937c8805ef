//! Ends all that a step started, where no process namespace does it: this process inherits the
//! orphans below it (`PR_SET_CHILD_SUBREAPER`), so whatever a step starts stays its descendant.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

use super::fail::{Context as _, Failure, check};

/// How long it may take until the last process has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often all are looked for that don't stand still yet, before those that do are killed.
const MAX_ROUNDS: u32 = 50;

/// The processes of this container, and this one's place among them.
pub(crate) struct Sweeper {
    proc: OwnedFd,
    own: i32,
}

impl Sweeper {
    /// To be made before the command is started, while `/proc` is the container's.
    pub(crate) fn new() -> Result<Self, Failure> {
        // SAFETY: prctl with PR_SET_CHILD_SUBREAPER takes integers only.
        check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
            .context("inherit what the step leaves")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty()).context("open /proc")?;
        // SAFETY: getpid takes nothing.
        let own = unsafe { libc::getpid() };
        Ok(Self { proc, own })
    }

    /// Kills every descendant of this process and waits for it. What is stopped first can't fork
    /// any more, so that those that fork without end are caught up with.
    pub(crate) fn end_all(&self) -> Result<(), Failure> {
        let started = Instant::now();
        while !reap() {
            for _ in 0..MAX_ROUNDS {
                if !self.signal(libc::SIGSTOP)? {
                    break;
                }
            }
            _ = self.signal(libc::SIGKILL)?;
            if started.elapsed() > PATIENCE {
                let reason = "they don't end when they are killed";
                return Err(Failure::new("end the processes of the step", reason));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends a signal to every descendant that it means something to; whether there was one.
    fn signal(&self, signal: i32) -> Result<bool, Failure> {
        let processes = self.processes().context("read /proc")?;
        let mut sent = false;
        for pid in descendants(&processes, self.own) {
            let state = processes[&pid].state;
            if state != 'Z' && !(signal == libc::SIGSTOP && state == 'T') {
                // SAFETY: takes integers; a descendant isn't waited for meanwhile, so its number is
                // still its own.
                sent |= unsafe { libc::kill(pid, signal) } == 0;
            }
        }
        Ok(sent)
    }

    fn processes(&self) -> rustix::io::Result<BTreeMap<i32, Process>> {
        let mut all = BTreeMap::new();
        for entry in Dir::read_from(&self.proc)?.flatten() {
            let Some(pid) = entry.file_name().to_str().ok().and_then(|s| s.parse().ok()) else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let path = format!("{pid}/stat");
            let Ok(file) = openat(&self.proc, path, flags, Mode::empty()) else {
                continue;
            };
            let text = std::io::read_to_string(std::fs::File::from(file)).unwrap_or_default();
            all.extend(Process::parse(&text).map(|process| (pid, process)));
        }
        Ok(all)
    }
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    state: char,
    parent: i32,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name before may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
        })
    }
}

fn descendants(processes: &BTreeMap<i32, Process>, ancestor: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        let children = processes.iter().filter(|(_, it)| it.parent == parent);
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        open.extend(&children);
        found.extend(children);
    }
    found
}

/// Waits for the children that have ended; whether there are no others.
fn reap() -> bool {
    loop {
        let mut status = 0;
        // SAFETY: the status lives until the call returns.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return false,
            pid if pid > 0 => {}
            _ => return std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_and_descendants_are_found() {
        let odd = Process::parse("7 (a) R 1 (b) S 3 7 7 0 -1").unwrap();
        assert_eq!((odd.state, odd.parent), ('S', 3));
        assert_eq!(Process::parse("7 (a"), None);
        let table = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5)];
        let process = |parent| Process { state: 'S', parent };
        let processes = table.iter().map(|(pid, parent)| (*pid, process(*parent)));
        let mut found = descendants(&processes.collect(), 2);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
