//! `kiln shell`: a terminal in a state of a build.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use kiln_cache::StepOutcome;
use kiln_engine::{Moment, Request};
use kiln_graph::StepId;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::build::BuildArgs;
use super::plan::BuildPlan;
use super::source::SourceArgs;
use super::{Failed, say};
use crate::display::{Style, display};
use kiln::{Engine, Error, Prepared, Secrets, prepare, select};

/// The flags of `kiln shell`.
#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    /// The step: a stage, STAGE:N, N in the target stage, or @LINE (default: the one that failed
    /// in the last build)
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// The state before the step instead of after it
    #[arg(long)]
    before: bool,
    /// A secret for the shell, as in kiln build (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
    /// An SSH agent for the shell, as in kiln build (repeatable)
    #[arg(long, value_name = "SPEC")]
    ssh: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `kiln shell`.
pub(crate) fn run(args: &ShellArgs) -> Result<(), Failed> {
    let engine = args.source.open(None, &[])?;
    let source = source(&engine, &args.source)?;
    let request = source.request()?;
    let mut secrets = Secrets::default();
    for text in &args.secrets {
        secrets.add(text)?;
    }
    for text in &args.ssh {
        secrets.add_agent(text)?;
    }
    let prepared = prepare(&engine, &request).map_err(|at| Failed::of(&at.0, &at.1))?;
    let secrets = Arc::new(secrets);
    let (step, before) = (args.step.as_deref(), args.before);
    let status = enter(&engine, &prepared, secrets, &source, step, before)?;
    match u8::try_from(status) {
        Ok(0) => Ok(()),
        other => Err(Failed {
            text: format!("the shell ended with status {status}"),
            status: other.unwrap_or(1),
        }),
    }
}

/// What is built: without flags, the same as the last build that was run in this directory.
fn source(engine: &Engine, given: &SourceArgs) -> Result<SourceArgs, Error> {
    let none = BuildArgs::without_flags()?.source;
    let own = BuildPlan::of_source(given);
    if own != BuildPlan::of_source(&none) {
        return Ok(given.clone());
    }
    let builds = engine.store().builds().all()?.into_iter();
    let mut plans = builds.filter_map(|build| BuildPlan::read(&build.plan));
    let Some(last) = plans.find(|plan| plan.directory == own.directory) else {
        return Ok(given.clone());
    };
    Ok(last.args()?.source.with_access_of(given))
}

/// Opens a shell where a step failed.
pub(crate) fn open(
    engine: &Engine,
    prepared: &Prepared,
    secrets: Arc<Secrets>,
    source: &SourceArgs,
    step: Option<&str>,
) -> Result<i32, Failed> {
    enter(engine, prepared, secrets, source, step, false)
}

fn enter(
    engine: &Engine,
    prepared: &Prepared,
    secrets: Arc<Secrets>,
    source: &SourceArgs,
    step: Option<&str>,
    before: bool,
) -> Result<i32, Failed> {
    let mut request = prepared.request();
    request.secrets = secrets;
    request.events = display(Style::Auto);
    let target = source.target.as_deref();
    let step = match step {
        Some(step) => last_of(&select(&request.build, target, step)?),
        None => failed_step(engine, &request, source)?,
    };
    let moment = match before {
        true => Moment::Before,
        false if engine.has_failed_state(&request, step)? => Moment::Failed,
        false => Moment::After,
    };
    let name = request.build.graph.step(step).name.to_string();
    let when = match moment {
        Moment::Before => "before",
        Moment::After => "after",
        Moment::Failed => "where it failed:",
    };
    say(&format!(
        "{when} {}",
        name.lines().next().unwrap_or_default()
    ));
    let terminal = Terminal::open()?;
    let shell = terminal.other.try_clone().map_err(terminal_error)?;
    let relay = terminal.relay()?;
    let status = engine.shell(&request, step, moment, shell.into());
    relay.end();
    Ok(status?)
}

fn last_of(steps: &[StepId]) -> StepId {
    #[expect(
        clippy::expect_used,
        reason = "a selector that names no step is an error"
    )]
    *steps.last().expect("a selector names at least one step")
}

/// The step that failed in the last build of this file.
fn failed_step(engine: &Engine, request: &Request, source: &SourceArgs) -> Result<StepId, Error> {
    let (subject, _) = source.subject();
    let last = engine.store().builds().all()?;
    let last = last.into_iter().find(|build| build.subject == subject);
    let failed = last.iter().flat_map(|build| &build.steps);
    let failed = failed
        .clone()
        .find(|step| step.outcome == StepOutcome::Failed);
    let mut steps = request.build.graph.steps();
    let found = failed.and_then(|failed| {
        let is = |(_, step): &(StepId, &kiln_graph::Step)| step.name.to_string() == failed.name;
        steps.find(is)
    });
    found.map(|(id, _)| id).ok_or_else(|| {
        Error::Usage(
            "no step of this build file failed in its last build: say which one with --step STEP"
                .to_owned(),
        )
    })
}

fn terminal_error(source: std::io::Error) -> Error {
    Error::File {
        what: "cannot open a terminal".to_owned(),
        source,
    }
}

/// The character that ends a terminal's input.
const END_OF_INPUT: u8 = 4;
/// How often it is sent.
const AGAIN: Duration = Duration::from_millis(100);

/// A new terminal: our side, and the other one for the shell.
struct Terminal {
    own: OwnedFd,
    other: std::fs::File,
}

impl Terminal {
    fn open() -> Result<Self, Error> {
        let open = || -> std::io::Result<Self> {
            let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&own)?;
            unlockpt(&own)?;
            let name = ptsname(&own, Vec::new())?;
            let path = std::path::PathBuf::from(name.to_string_lossy().into_owned());
            use std::os::unix::fs::OpenOptionsExt as _;
            let other = std::fs::File::options()
                .read(true)
                .write(true)
                .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
                .open(path)?;
            Ok(Self { own, other })
        };
        open().map_err(terminal_error)
    }

    /// Copies between the user and the shell until the shell ends.
    fn relay(self) -> Result<Relay, Error> {
        let raw = Raw::enter();
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map(std::fs::File::from)
                .map_err(terminal_error)
        };
        let (mut to, mut from) = (copy(&self.own)?, copy(&self.own)?);
        let size = self.own.try_clone().map_err(terminal_error)?;
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = ended.clone();
        std::thread::spawn(move || {
            _ = std::io::copy(&mut std::io::stdin().lock(), &mut to);
            // The end of the input is the end of the terminal's. A shell that takes control of the
            // terminal's lines forgets one that came before, so it is said until it is heard.
            while !has_ended.load(Ordering::Relaxed) && to.write_all(&[END_OF_INPUT]).is_ok() {
                std::thread::sleep(AGAIN);
            }
        });
        std::thread::spawn(move || follow_size(&size));
        let shown = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut out = std::io::stdout().lock();
                _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
            }
        });
        drop(self.other);
        Ok(Relay {
            shown,
            ended,
            _raw: raw,
        })
    }
}

/// What copies between the user and a shell.
struct Relay {
    shown: std::thread::JoinHandle<()>,
    ended: Arc<AtomicBool>,
    _raw: Option<Raw>,
}

impl Relay {
    /// To be called when the shell has ended: shows the last of what it wrote.
    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        _ = self.shown.join();
    }
}

/// The user's terminal, passing every key on.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Gives the shell's terminal the size of the user's.
fn follow_size(own: &OwnedFd) {
    let mut last = None;
    while let Ok(size) = tcgetwinsize(std::io::stdout().as_fd()) {
        let now = (size.ws_row, size.ws_col);
        if last != Some(now) && tcsetwinsize(own, size).is_err() {
            return;
        }
        last = Some(now);
        std::thread::sleep(Duration::from_millis(200));
    }
}
