//! Programs of the machine that make file systems.

use std::io::{self, Read as _, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiln_tree::host;

/// How often it is asked whether to stop.
const PAUSE: Duration = Duration::from_millis(20);
/// More than this of what a program says isn't kept, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// Asked now and then: fails when the work is to end.
pub(super) type Stop<'a> = &'a dyn Fn() -> io::Result<()>;

/// A program that is about to run.
pub(super) struct Program {
    name: &'static str,
    /// What installs it.
    package: &'static str,
    command: Command,
}

impl Program {
    pub(super) fn new(name: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(name);
        // They lie in /usr/sbin, which users' PATH leaves out.
        command.env("PATH", search_path());
        command.env("LC_ALL", "C");
        Self {
            name,
            package,
            command,
        }
    }

    pub(super) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end, with what `feed` writes as its standard input; what it said on standard error.
    ///
    /// # Errors
    /// When it can't be run, or fails, or `feed` or `stop` does.
    pub(super) fn run(
        mut self,
        feed: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        stop: Stop<'_>,
    ) -> io::Result<String> {
        let command = &mut self.command;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn(command, self.name, self.package)?;
        let said = child.stderr.take();
        let listen = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut said) = said {
                _ = said.by_ref().take(MAX_SAID).read_to_end(&mut text);
                _ = io::copy(&mut said, &mut io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let fed = match child.stdin.take() {
            Some(stdin) => {
                let mut stdin = io::BufWriter::with_capacity(1 << 20, stdin);
                feed(&mut stdin).and_then(|()| stdin.flush())
            }
            None => Ok(()),
        };
        let failed = fed.as_ref().err();
        if failed.is_some_and(|error| !is_broken_pipe(error)) {
            _ = child.kill();
        }
        let ended = wait(&mut child, stop);
        let said = listen.join().unwrap_or_default();
        let ended = ended?;
        if !ended.success() && failed.is_none_or(is_broken_pipe) {
            return Err(io::Error::other(format!("{} failed: {said}", self.name)));
        }
        fed.map(|()| said)
    }
}

/// Where programs are looked for.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Says which of some programs, given with the packages they come with, isn't installed.
#[must_use]
pub fn missing_program(programs: &[(&str, &str)]) -> Option<String> {
    let path = search_path();
    let is_there = |name: &str| {
        let mut places = std::env::split_paths(&path);
        places.any(|directory| {
            host::metadata(directory.join(name)).is_ok_and(|about| about.is_file())
        })
    };
    let missing = programs.iter().find(|(name, _)| !is_there(name));
    missing.map(|(name, package)| not_installed(name, package))
}

fn not_installed(name: &str, package: &str) -> String {
    format!("the program {name} isn't installed: it comes with the package {package}")
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn spawn(command: &mut Command, name: &str, package: &str) -> io::Result<Child> {
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(io::ErrorKind::NotFound, not_installed(name, package))
        }
        kind => io::Error::new(kind, format!("the program {name} can't be run: {error}")),
    })
}

fn wait(child: &mut Child, stop: Stop<'_>) -> io::Result<std::process::ExitStatus> {
    loop {
        if let Some(ended) = child.try_wait()? {
            return Ok(ended);
        }
        if let Err(error) = stop() {
            _ = child.kill();
            _ = child.wait();
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
}
