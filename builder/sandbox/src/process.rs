//! The caller's side: starts the helper, waits for its report, ends it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::line::{self, Killer, Line, Streams};
use crate::mount_attributes::make_read_only;
use crate::{SandboxError, Spec};

/// The name under which a program is executed again to be the helper.
pub const HELPER_NAME: &str = "kiln-sandbox-init";

/// Starts processes.
#[derive(Clone, Debug)]
pub struct Sandbox {
    helper: PathBuf,
    sealed: Arc<OnceLock<Option<OwnedFd>>>,
}

/// The helper through a mount that can't be written through: a step that is made to execute
/// `/proc/self/exe` holds the helper's file, and root could write to it (CVE-2019-5736).
fn seal(helper: &Path) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let sealed = open_tree(CWD, helper, flags).ok()?;
    make_read_only(&sealed).ok()?;
    Some(sealed)
}

/// Where a process's output goes.
#[derive(Debug)]
pub enum Output {
    /// To pipes that the caller reads.
    Piped,
    /// To the caller's own output.
    Inherited,
    /// To this terminal, for a [`Spec`] with `terminal`.
    Terminal(OwnedFd),
    /// To these; its input comes from there too.
    Given(Streams),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with a status.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Killed because the machine or its control group ran out of memory.
    OutOfMemory,
    /// It could not be executed: the text says why, as container runtimes word it; 126 or 127.
    NotExecuted {
        /// Why.
        reason: String,
        /// The status a shell would report.
        code: i32,
    },
    /// It was stopped on request.
    Killed,
}

/// A process that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// How.
    pub exit: Exit,
    /// What it used.
    pub usage: Usage,
}

impl Finished {
    /// A process that was killed together with its helper.
    pub(crate) fn killed() -> Self {
        Self {
            exit: Exit::Killed,
            usage: Usage::default(),
        }
    }
}

/// What a process and all it started used of the machine (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in user space and in the kernel together.
    pub cpu: Duration,
    /// The most memory that one process had at once, in bytes.
    pub memory: u64,
}

/// What the helper reports, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Finished(Finished),
    Failed {
        what: String,
        reason: String,
        errno: i32,
    },
    StillWritten,
}

impl Report {
    /// How the process ended.
    pub(crate) fn into_finished(self) -> Result<Finished, SandboxError> {
        match self {
            Self::Finished(finished) => Ok(finished),
            Self::Failed {
                what,
                reason,
                errno,
            } => Err(SandboxError::Setup {
                what,
                reason,
                errno,
            }),
            Self::StillWritten => Err(SandboxError::StillWritten),
        }
    }
}

impl Sandbox {
    /// Sandboxes made by the running program, whose `main` calls
    /// [`run_if_helper`](crate::run_if_helper).
    #[must_use]
    pub fn of_this_program() -> Self {
        Self {
            helper: PathBuf::from("/proc/self/exe"),
            sealed: Arc::default(),
        }
    }

    /// Sandboxes made by another program that calls [`run_if_helper`](crate::run_if_helper).
    #[must_use]
    pub fn of_program(helper: PathBuf) -> Self {
        Self {
            helper,
            sealed: Arc::default(),
        }
    }

    /// A command that runs a program of the machine with this process's rights, and all that it
    /// starts, no longer than this process and the [`Lifeline`](crate::Lifeline). Its standard
    /// input is empty; its environment, directory and arguments are those of `command`.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn guarded(&self, command: &Command) -> io::Result<(Command, crate::Lifeline)> {
        crate::guard::guarded(&self.helper, command)
    }

    /// Starts a process. Until its command runs it is killed when the calling thread ends; from then
    /// on, when the caller's process ends.
    ///
    /// # Errors
    /// When the helper can't be started. What it then can't do is told by [`Child::wait`].
    pub fn spawn(&self, spec: &Spec, output: Output) -> Result<Child, SandboxError> {
        self.spawn_in(spec, output, None)
    }

    /// Like [`Self::spawn`], in a control group that limits all that is started.
    ///
    /// # Errors
    /// As [`Self::spawn`], and when the helper can't be moved into the group.
    pub fn spawn_in(
        &self,
        spec: &Spec,
        output: Output,
        group: Option<&Group>,
    ) -> Result<Child, SandboxError> {
        let (ours, theirs) = UnixStream::pair()?;
        let sealed = self.sealed.get_or_init(|| seal(&self.helper));
        let helper = match sealed {
            Some(sealed) => PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd())),
            None => self.helper.clone(),
        };
        let mut command = Command::new(helper);
        command
            .arg0(HELPER_NAME)
            .env_clear()
            // Ctrl-C in a terminal is for the caller, which ends the helper in order.
            .process_group(0)
            .stdin(OwnedFd::from(theirs));
        let mut input = None;
        match output {
            Output::Piped => _ = command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Output::Inherited => {}
            Output::Terminal(terminal) => {
                command.stderr(terminal.try_clone()?).stdout(terminal);
            }
            Output::Given(streams) => {
                input = streams.input;
                command.stdout(streams.output).stderr(streams.errors);
            }
        }
        let program = self.helper.display().to_string();
        let mut process = command
            .spawn()
            .map_err(|source| SandboxError::Helper { program, source })?;
        drop(command);
        let helper = match begin(&process, &ours, spec, (group, input)) {
            Ok(helper) => helper,
            Err(error) => {
                _ = process.kill();
                _ = process.wait();
                return Err(error);
            }
        };
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        Ok(Child {
            process,
            killer: Killer(Arc::new(Line {
                channel: ours,
                helper,
                cut: AtomicBool::new(false),
            })),
            stdout,
            stderr,
        })
    }
}

/// Moves the helper into its group and tells it what to run, and with which standard input; the helper
/// as a descriptor.
fn begin(
    helper: &std::process::Child,
    channel: &UnixStream,
    spec: &Spec,
    (group, input): (Option<&Group>, Option<OwnedFd>),
) -> Result<OwnedFd, SandboxError> {
    let descriptor = pidfd_open(Pid::from_child(helper), PidfdFlags::empty());
    let descriptor = descriptor.map_err(io::Error::from)?;
    if let Some(group) = group {
        group.add(helper.id())?;
    }
    let given: Vec<_> = input.iter().map(OwnedFd::as_fd).collect();
    line::send(channel, spec, &given)?;
    Ok(descriptor)
}

/// A running process. Dropped before it ended, it is killed.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    killer: Killer,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Child {
    /// The process's standard output, once, where it is piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The process's standard error, once, where it is piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Can be read when [`Child::wait`] has something to return.
    #[must_use]
    pub fn report(&self) -> BorrowedFd<'_> {
        self.killer.0.channel.as_fd()
    }

    /// Something that can kill the process from another thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Waits until the process, and all it started, have ended and nothing is mounted any more.
    ///
    /// # Errors
    /// When the sandbox could not be prepared.
    pub fn wait(mut self) -> Result<Finished, SandboxError> {
        let report = line::report(&self.killer.0.channel)?;
        let status = self.process.wait()?;
        match report {
            Some(report) => report.into_finished(),
            None if self.killer.0.cut.load(Ordering::SeqCst) => Ok(Finished::killed()),
            None => Err(SandboxError::Vanished(match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => status.to_string(),
            })),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            self.killer.kill();
            _ = self.process.wait();
        }
    }
}
