//! Runs a command to its end.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use kiln_graph::{Exec, Step};
use kiln_sandbox::{Cgroups, Child, Exit, Finished, Killer, Output, Sandbox, Spec};
use kiln_solve::{Event, Job, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::failure::{failure, impossible, unstarted};
use super::mask::{Hidden, Mask};
use crate::EngineError;

/// The most that a step may write whose output is used as a value, in bytes.
const MAX_WRITTEN: usize = 64 * 1024;
/// How much of a failed step's output is shown again.
const LAST_OUTPUT: usize = 16 * 1024;

/// A command about to run.
pub(super) struct Process<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) job: &'a Job<'a>,
    pub(super) exec: &'a Exec,
    pub(super) spec: &'a Spec,
    /// What limits it.
    pub(super) cgroups: Option<&'a Cgroups>,
    /// What is masked in its output.
    pub(super) secrets: &'a [Hidden],
}

/// A command that has run.
pub(super) struct Written {
    pub(super) finished: Finished,
    /// The last of what it wrote.
    pub(super) last: String,
    /// All of its standard output, when somebody wants to know.
    pub(super) stdout: Option<String>,
}

impl Process<'_> {
    /// Runs the command to its end, telling what it writes.
    pub(super) fn run(&self) -> Result<Written, EngineError> {
        let failed = |source| unstarted(self.job.step, source);
        let mut mask = Mask::new(self.secrets)?;
        let group = self.cgroups.map(Cgroups::group).transpose();
        let group = group.map_err(|error| failed(error.into()))?;
        let child = self
            .sandbox
            .spawn_in(self.spec, Output::Piped, group.as_ref());
        let mut child = child.map_err(failed)?;
        let killer = child.killer();
        let _guard = self.job.cancel.on_cancel(move || killer.kill());
        let limit = self.exec.timeout;
        let limit = limit.map(|limit| Limit::start(limit, child.killer()));
        let mut heard = Heard::new(self.job);
        if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
            pump(stdout, stderr, &child, &mut |stream, bytes| {
                heard.hear(stream, mask.pass(stream, bytes));
            });
            for stream in [Stream::Stdout, Stream::Stderr] {
                heard.hear(stream, mask.end(stream));
            }
        }
        let finished = match child.wait() {
            Err(_) if self.job.cancel.is_cancelled() => return Err(EngineError::Cancelled),
            other => other.map_err(failed)?,
        };
        self.job.events.event(Event::Used {
            step: self.job.id.into(),
            cpu: finished.usage.cpu,
            memory: finished.usage.memory,
        });
        let stdout = match self.job.keep_output && finished.exit == Exit::Code(0) {
            true => Some(as_value(self.job.step, heard.written)?),
            false => None,
        };
        let last = String::from_utf8_lossy(&heard.last).into_owned();
        if finished.exit != Exit::Killed {
            return Ok(Written {
                finished,
                last,
                stdout,
            });
        }
        match limit.filter(Limit::is_over) {
            Some(limit) => Err(late(self.job.step, self.exec, limit.after, last)),
            None => Err(EngineError::Cancelled),
        }
    }
}

/// What a command wrote so far.
struct Heard<'a> {
    job: &'a Job<'a>,
    /// The last of it.
    last: Vec<u8>,
    /// Its standard output, when somebody wants to know.
    written: Vec<u8>,
}

impl<'a> Heard<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        Self {
            job,
            last: Vec::new(),
            written: Vec::new(),
        }
    }

    fn hear(&mut self, stream: Stream, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let wanted = self.job.keep_output && stream == Stream::Stdout;
        if wanted && self.written.len() <= MAX_WRITTEN {
            self.written.extend_from_slice(&bytes);
        }
        self.last.extend_from_slice(&bytes);
        if self.last.len() > LAST_OUTPUT * 2 {
            self.last.drain(..self.last.len() - LAST_OUTPUT);
        }
        self.job.events.event(Event::Output {
            step: self.job.id.into(),
            stream,
            bytes,
        });
    }
}

/// What a step wrote, for texts of the build file that name it.
fn as_value(step: &Step, bytes: Vec<u8>) -> Result<String, EngineError> {
    let unfit = |what| {
        let message = format!("{}: its output is used as a value, but {what}", step.name);
        impossible(step, message)
    };
    if bytes.len() > MAX_WRITTEN {
        return Err(unfit("is longer than 64 KiB: write less"));
    }
    String::from_utf8(bytes).map_err(|_| unfit("isn't UTF-8"))
}

fn late(step: &Step, exec: &Exec, after: Duration, last_output: String) -> EngineError {
    let limit = after.as_secs_f64();
    let how = format!("killed, for it ran longer than its timeout of {limit} s");
    failure(step, exec, how, last_output)
}

/// Kills a command that runs for too long. Ends with the value.
struct Limit {
    after: Duration,
    over: Arc<AtomicBool>,
    _done: Sender<()>,
}

impl Limit {
    fn start(after: Duration, killer: Killer) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (done, wait) = channel::<()>();
        let noted = over.clone();
        std::thread::spawn(move || {
            if wait.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                noted.store(true, Ordering::SeqCst);
                killer.kill();
            }
        });
        Self {
            after,
            over,
            _done: done,
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Reads what a process writes until both pipes end, or the process has: whoever else was given
/// its output and keeps it open is not waited for.
fn pump(
    stdout: ChildStdout,
    stderr: ChildStderr,
    child: &Child,
    tell: &mut dyn FnMut(Stream, &[u8]),
) {
    let mut pipes: Vec<(Stream, File)> = vec![
        (Stream::Stdout, OwnedFd::from(stdout).into()),
        (Stream::Stderr, OwnedFd::from(stderr).into()),
    ];
    let mut buffer = vec![0; 64 * 1024];
    while !pipes.is_empty() {
        let Ok(ready) = wait(&pipes, Some(child), None) else {
            return;
        };
        let ended = ready[pipes.len()];
        forward(&mut pipes, &ready, &mut buffer, tell);
        if ended {
            return drain(&mut pipes, &mut buffer, tell);
        }
    }
}

/// Reads what already lies in pipes, and no more than fits into them: somebody may go on writing.
fn drain(pipes: &mut Vec<(Stream, File)>, buffer: &mut [u8], tell: &mut dyn FnMut(Stream, &[u8])) {
    for _ in 0..MAX_PIPE.div_ceil(buffer.len()) {
        match wait(pipes, None, Some(Timespec::default())) {
            Ok(ready) if ready.contains(&true) => forward(pipes, &ready, buffer, tell),
            _ => return,
        }
    }
}

/// The most that a pipe holds (`/proc/sys/fs/pipe-max-size`), in bytes.
const MAX_PIPE: usize = 1 << 20;

/// Which pipes can be read without waiting; after them, whether the process has ended.
fn wait(
    pipes: &[(Stream, File)],
    child: Option<&Child>,
    limit: Option<Timespec>,
) -> rustix::io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = pipes
        .iter()
        .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
        .chain(child.map(|child| PollFd::from_borrowed_fd(child.report(), PollFlags::IN)))
        .collect();
    loop {
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what is ready, once each, and forgets pipes that have ended.
fn forward(
    pipes: &mut Vec<(Stream, File)>,
    ready: &[bool],
    buffer: &mut [u8],
    tell: &mut dyn FnMut(Stream, &[u8]),
) {
    let mut ready = ready.iter();
    pipes.retain_mut(|(stream, pipe)| {
        if ready.next() != Some(&true) {
            return true;
        }
        match pipe.read(buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                tell(*stream, &buffer[..count]);
                true
            }
        }
    });
}
