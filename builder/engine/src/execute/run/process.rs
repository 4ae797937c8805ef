//! Runs a command to its end.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kiln_graph::{Exec, Step, StepId};
use kiln_sandbox::{Child, Exit, Finished, Killer, Output, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::missing;
use crate::execute::run::mask::{Hidden, Mask};
use crate::solve::step::Shared;
use crate::{ChangedFiles, EngineError, Event, StepFailure, Stream};

/// The most that a step may write whose output is used as a value, in bytes.
const MOST_WRITTEN: usize = 64 * 1024;
/// How much of a failed step's output is shown again.
const LAST_OUTPUT: usize = 16 * 1024;

impl Shared<'_> {
    /// Runs a process to its end, telling what it writes; keeps the last of it.
    pub(super) fn run_process(
        &self,
        id: StepId,
        step: &Step,
        exec: &Exec,
        spec: &Spec,
        secrets: &[Hidden],
    ) -> Result<(Finished, String), EngineError> {
        let failed = |source| EngineError::Sandbox {
            name: step.name.to_string(),
            location: step.location.clone(),
            source,
        };
        let mut mask = Mask::new(secrets)?;
        let mut child = self
            .engine
            .sandbox
            .spawn(spec, Output::Piped)
            .map_err(failed)?;
        let killer = child.killer();
        let _guard = self.cancel.on_cancel(move || killer.kill());
        let limit = exec
            .timeout
            .map(|limit| Limit::start(limit, child.killer()));
        let mut last = Vec::new();
        let mut written = Vec::new();
        let wanted = self.request.outputs.contains(&id);
        if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
            let mut show = |stream, bytes: Vec<u8>| {
                if wanted && stream == Stream::Stdout && written.len() <= MOST_WRITTEN {
                    written.extend_from_slice(&bytes);
                }
                self.tell(id, stream, bytes, &mut last);
            };
            pump(stdout, stderr, &child, &mut |stream, bytes| {
                show(stream, mask.pass(stream, bytes));
            });
            for stream in [Stream::Stdout, Stream::Stderr] {
                show(stream, mask.end(stream));
            }
        }
        let finished = match child.wait() {
            Err(_) if self.cancel.is_cancelled() => return Err(EngineError::Cancelled),
            other => other.map_err(failed)?,
        };
        self.request.events.event(Event::Used {
            step: id.into(),
            cpu: finished.usage.cpu,
            memory: finished.usage.memory,
        });
        if wanted && finished.exit == Exit::Code(0) {
            self.note_written(id, step, written)?;
        }
        let last = String::from_utf8_lossy(&last).into_owned();
        if finished.exit != Exit::Killed {
            return Ok((finished, last));
        }
        match limit.filter(Limit::is_over) {
            Some(limit) => Err(late(step, exec, limit.after, last)),
            None => Err(EngineError::Cancelled),
        }
    }

    /// Keeps what a step wrote, for texts of the build file that name it.
    fn note_written(&self, id: StepId, step: &Step, bytes: Vec<u8>) -> Result<(), EngineError> {
        let unfit = |what| {
            let message = format!("{}: its output is used as a value, but {what}", step.name);
            missing(step, message)
        };
        if bytes.len() > MOST_WRITTEN {
            return Err(unfit("is longer than 64 KiB: write less"));
        }
        let text = String::from_utf8(bytes).map_err(|_| unfit("isn't UTF-8"))?;
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.insert(id, text);
        Ok(())
    }

    fn tell(&self, id: StepId, stream: Stream, bytes: Vec<u8>, last: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        last.extend_from_slice(&bytes);
        if last.len() > LAST_OUTPUT * 2 {
            last.drain(..last.len() - LAST_OUTPUT);
        }
        self.request.events.event(Event::Output {
            step: id.into(),
            stream,
            bytes,
        });
    }
}

fn late(step: &Step, exec: &Exec, after: Duration, last_output: String) -> EngineError {
    EngineError::Step(Box::new(StepFailure {
        name: step.name.to_string(),
        command: exec.args.join(" "),
        how: format!(
            "killed, for it ran longer than its timeout of {} s",
            after.as_secs_f64()
        ),
        location: step.location.clone(),
        last_output,
        changed: ChangedFiles::default(),
    }))
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
