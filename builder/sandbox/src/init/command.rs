//! The command itself: gives up privileges, then executes.
#![expect(
    clippy::disallowed_methods,
    reason = "the process is in the root already, and walks as the command would"
)]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, umask, waitpid};

use super::execute::{Problem, execute};
use super::fail::{Context as _, Failure, check};
use super::handover::{self, Channel};
use super::inherited;
use super::resource_limit::{each_limit, raise, set_limit};
use crate::line::Order;
use crate::process::Exit;
use crate::{OwnerCalls, Spec};

/// The root that a command is started in, prepared by its parent.
pub(crate) trait Inside {
    /// Moves this process into the root.
    fn enter(&self, spec: &Spec) -> Result<(), Failure>;

    /// Moves another process into it, while the command runs that was started first.
    fn join(&self) -> Result<(), Failure>;

    /// Takes from this process what the command is not to have. Where it must not ask for other ids,
    /// what can be read once it does.
    fn confine(&self, spec: &Spec) -> Result<Option<OwnedFd>, Failure>;

    /// `/dev/null`, open for reading.
    fn null(&self) -> &OwnedFd;
}

/// How a command comes into its root.
pub(crate) struct Entry {
    /// Whether another one is there already.
    pub(crate) joins: bool,
    /// Its streams that aren't this process's own: of one that joins others its output, its errors
    /// and its input, of the first its input; there need not be an input.
    pub(crate) streams: Vec<OwnedFd>,
}

impl Entry {
    fn input(&self) -> Option<&OwnedFd> {
        match self.joins {
            true => self.streams.get(2),
            false => self.streams.first(),
        }
    }

    /// The output of a command that joins others, and its errors.
    fn outputs(&self) -> Option<[&OwnedFd; 2]> {
        match self.streams.as_slice() {
            [output, errors, ..] if self.joins => Some([output, errors]),
            _ => None,
        }
    }
}

/// What became of the command.
pub(crate) enum Started {
    /// It runs; where it must not ask for other ids, with what can be read once it does.
    Running(i32, Option<OwnedFd>),
    Not(Exit),
}

/// Forks the command. Returns once it was executed, could not be, or `caller` has hung up.
pub(crate) fn start(
    order: &Order<'_>,
    root: &dyn Inside,
    caller: &UnixStream,
    entry: &Entry,
) -> Result<Started, Failure> {
    let (report, told) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let is_told = order.spec.owner_calls == OwnerCalls::Refused;
    let ids = handover::channel(is_told).context("make a socket")?;
    // SAFETY: this process has one thread, so the child may go on as usual.
    let child = unsafe { libc::fork() };
    check(child).context("fork")?;
    if child == 0 {
        drop(report);
        let problem = match die_with(&told) {
            Ok(()) => become_command(order, root, entry, (&told, ids.as_ref())),
            Err(error) => Problem::Setup("start the command".to_owned(), error.to_string()),
        };
        _ = std::fs::File::from(told).write_all(problem.encode().as_bytes());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(127) }
    }
    drop(told);
    let kill = || {
        // SAFETY: takes integers; the child is this process's own and not yet waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
    };
    let mut ids = Ids::new(ids);
    match until_started(report, caller, &mut ids).context("start the command")? {
        Beginning::HungUp => {
            kill();
            Ok(Started::Running(child, None))
        }
        Beginning::AskedForIds => {
            kill();
            _ = waitpid(Pid::from_raw(child), WaitOptions::empty());
            Err(Failure::other_ids())
        }
        Beginning::Said(text) => {
            let Some(problem) = Problem::decode(&text) else {
                let ids = ids.told().context("watch the command's ids")?;
                return Ok(Started::Running(child, ids));
            };
            // While it is there its process namespace can't end.
            _ = waitpid(Pid::from_raw(child), WaitOptions::empty());
            match problem {
                Problem::Setup(what, reason) => Err(Failure::new(what, reason)),
                Problem::Execute(reason, code) => {
                    Ok(Started::Not(Exit::NotExecuted { reason, code }))
                }
            }
        }
    }
}

/// What can be read when a command asks for another id, where it must not: its process gives it to
/// its parent before it does anything that may ask.
struct Ids {
    channel: Option<Channel>,
    told: Option<OwnedFd>,
}

impl Ids {
    fn new(channel: Option<Channel>) -> Self {
        Self {
            channel,
            told: None,
        }
    }

    /// What is to be waited for next.
    fn polled(&self) -> Option<BorrowedFd<'_>> {
        let told = self.told.as_ref().map(OwnedFd::as_fd);
        told.or_else(|| self.channel.as_ref().map(Channel::parent))
    }

    /// Takes what was given, or says that an id was asked for.
    fn has_asked(&mut self) -> io::Result<bool> {
        let is_told = self.told.is_some();
        if !is_told {
            self.told = self.channel.as_ref().map(handover::take).transpose()?;
        }
        Ok(is_told)
    }

    /// What a command that was executed has given.
    fn told(mut self) -> io::Result<Option<OwnedFd>> {
        _ = self.has_asked()?;
        Ok(self.told)
    }
}

/// What becomes of a command's process before it executes the command.
enum Beginning {
    /// It says why it can't; nothing once the command was executed.
    Said(String),
    /// The caller hung up.
    HungUp,
    /// It asked for an id that it must not have.
    AskedForIds,
}

/// Has this process killed when its parent ends, which holds the other end of `pipe`; also when it
/// has ended already.
fn die_with(pipe: &OwnedFd) -> io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    let mut polled = [PollFd::new(pipe, PollFlags::empty())];
    let now = Timespec::default();
    match poll(&mut polled, Some(&now))? {
        0 => Ok(()),
        _ => Err(io::Error::other("the helper has ended")),
    }
}

/// Waits until the command's process has executed the command or can't: then `pipe` ends.
fn until_started(pipe: OwnedFd, caller: &UnixStream, ids: &mut Ids) -> io::Result<Beginning> {
    let mut pipe = std::fs::File::from(pipe);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let [readable, hung_up, asks] = wait(&pipe, caller, ids)?;
        if asks && ids.has_asked()? {
            return Ok(Beginning::AskedForIds);
        }
        if readable {
            match pipe.read(&mut buffer)? {
                0 => return Ok(Beginning::Said(String::from_utf8_lossy(&text).into_owned())),
                count => text.extend_from_slice(&buffer[..count]),
            }
        } else if hung_up {
            return Ok(Beginning::HungUp);
        }
    }
}

/// Whether the pipe can be read, the caller has hung up, and something is known of ids.
fn wait(pipe: &std::fs::File, caller: &UnixStream, ids: &Ids) -> io::Result<[bool; 3]> {
    let mut polled = vec![
        PollFd::new(pipe, PollFlags::IN),
        // What it says beforehand is for the command that runs.
        PollFd::new(caller, PollFlags::RDHUP),
    ];
    polled.extend(
        ids.polled()
            .map(|ids| PollFd::from_borrowed_fd(ids, PollFlags::IN)),
    );
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let asks = polled.get(2).map_or(PollFlags::empty(), PollFd::revents);
    Ok([
        !polled[0].revents().is_empty(),
        !polled[1].revents().is_empty(),
        asks.contains(PollFlags::IN),
    ])
}

fn become_command(
    order: &Order<'_>,
    root: &dyn Inside,
    entry: &Entry,
    (parent, ids): (&OwnedFd, Option<&Channel>),
) -> Problem {
    let spec = &*order.spec;
    let entered = match entry.joins {
        // Until it executes, those that are in there already can't reach what it has open.
        true => hide().and_then(|()| root.join()),
        false => root.enter(spec),
    };
    if let Err(failure) = entered {
        return Problem::of(failure);
    }
    if let Err((what, error)) = prepare(order, root, entry, (parent, ids)) {
        return Problem::Setup(what, error.to_string());
    }
    execute(spec)
}

/// Makes this process's files in `/proc` root's, until it executes a program.
fn hide() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden
        .map_err(io::Error::from)
        .context("hide from other processes")
}

fn prepare(
    order: &Order<'_>,
    root: &dyn Inside,
    entry: &Entry,
    (parent, ids): (&OwnedFd, Option<&Channel>),
) -> Result<(), (String, io::Error)> {
    let spec = &*order.spec;
    let step =
        |what: &str, result: io::Result<()>| result.map_err(|error| (what.to_owned(), error));
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    inherited::reset_signals();
    step("open standard output", standard_output(entry))?;
    let input = entry.input().unwrap_or(root.null());
    step("open standard input", standard_input(spec.terminal, input))?;
    umask(Mode::from_raw_mode(0o022));
    let descriptors = order
        .descriptors
        .map_or(Ok(()), inherited::reset_descriptors);
    step("set resource limits", descriptors)?;
    step("set resource limits", each_limit(&spec.limits, raise))?;
    let directory = enter_directory(spec);
    // A directory outside of the root (by a descriptor in /proc/self/fd) has no path.
    let directory = directory.and_then(|()| std::env::current_dir().map(drop));
    step(
        &format!("change to the working directory {}", spec.cwd.display()),
        directory,
    )?;
    if let (Some(told), Some(ids)) = (root.confine(spec).map_err(Failure::into_words)?, ids) {
        step("watch the command's ids", handover::give(ids, &told))?;
    }
    give_output(spec.uid.get(), spec.terminal);
    step("change the user", change_user(spec))?;
    // A process that changes its user is no longer killed with its parent.
    step("start the command", die_with(parent))?;
    // At the end: to confine the step takes descriptors.
    step("set resource limits", each_limit(&spec.limits, set_limit))
}

/// Changes to the command's directory. As with runc, one that isn't there is made for its user.
fn enter_directory(spec: &Spec) -> io::Result<()> {
    match std::env::set_current_dir(&spec.cwd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(&spec.cwd, spec)?;
            std::env::set_current_dir(&spec.cwd)
        }
        entered => entered,
    }
}

fn make_directory(path: &Path, spec: &Spec) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_directory(parent, spec)?;
    }
    match std::fs::create_dir(path) {
        // An owner that can't be had (no such user is mapped) leaves it root's.
        Ok(()) => {
            std::os::unix::fs::lchown(path, Some(spec.uid.get()), Some(spec.gid.get())).or(Ok(()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets the command's user open `/dev/stdout` and `/dev/stderr`. Only pipes, and the terminal that was
/// made for it, are the command's alone; an owner that can't be had (no such user is mapped) means
/// that only the open descriptors can be used.
fn give_output(uid: u32, terminal: bool) {
    use rustix::fs::{FileType, Uid, fchown, fstat};
    for output in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let is_pipe =
            fstat(output).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe || terminal {
            _ = fchown(output, Some(Uid::from_raw(uid)), None);
        }
    }
}

fn change_user(spec: &Spec) -> io::Result<()> {
    let groups: Vec<libc::gid_t> = spec.groups.iter().map(|group| group.get()).collect();
    let (uid, gid) = (spec.uid.get(), spec.gid.get());
    // SAFETY: the list has the length given and lives until the call returns.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: these take integers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

fn standard_output(entry: &Entry) -> io::Result<()> {
    for (given, place) in entry.outputs().into_iter().flatten().zip([1, 2]) {
        // SAFETY: both are descriptors of this process.
        check(unsafe { libc::dup2(given.as_raw_fd(), place) })?;
    }
    Ok(())
}

fn standard_input(terminal: bool, input: &OwnedFd) -> io::Result<()> {
    if terminal {
        // SAFETY: duplicates a descriptor number onto another; 1 is the terminal.
        check(unsafe { libc::dup2(1, 0) })?;
        // SAFETY: takes an integer; the process has just begun a session without a terminal.
        return check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) });
    }
    // SAFETY: both are descriptors of this process.
    check(unsafe { libc::dup2(input.as_raw_fd(), 0) })
}
