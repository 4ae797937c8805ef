//! How the command ended.
#![expect(clippy::disallowed_methods, reason = "files of /proc of the machine")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::process::WaitStatus;

use crate::process::Exit;

/// What a wait status means; `None`: it was killed on request.
pub(crate) fn of(status: Option<WaitStatus>, memory_kills: &MemoryKills) -> Exit {
    let Some(status) = status else {
        return Exit::Killed;
    };
    let killed = status.terminating_signal() == Some(libc::SIGKILL)
        || status.exit_status() == Some(128 + libc::SIGKILL);
    if killed && memory_kills.have_grown() {
        return Exit::OutOfMemory;
    }
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(1),
    }
}

/// How many processes the kernel has killed for memory since it started (`/proc/vmstat`,
/// `oom_kill`). The file is opened once: later the path is inside of the step's root.
pub(crate) struct MemoryKills {
    file: Option<File>,
    before: Option<u64>,
}

impl MemoryKills {
    pub(crate) fn now() -> Self {
        let file = File::open("/proc/vmstat").ok();
        let before = file.as_ref().and_then(read);
        Self { file, before }
    }

    fn have_grown(&self) -> bool {
        self.before.is_some() && self.file.as_ref().and_then(read) != self.before
    }
}

fn read(file: &File) -> Option<u64> {
    let mut bytes = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(_) => return None,
        }
    }
    let text = String::from_utf8_lossy(&bytes[..length]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}
