//! The last thing that a command's process does here: it becomes the program, or says why not.
#![expect(
    clippy::disallowed_methods,
    reason = "the process is in the root already, and looks for programs as the command would"
)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::fail::Failure;
use crate::Spec;

/// Why the command was not executed; crosses a pipe as text, its parts separated by newlines.
pub(super) enum Problem {
    Setup(String, String),
    Execute(String, i32),
}

impl Problem {
    pub(super) fn of(failure: Failure) -> Self {
        let (what, error) = failure.into_words();
        Self::Setup(what, error.to_string())
    }

    pub(super) fn encode(&self) -> String {
        match self {
            Self::Setup(what, reason) => format!("setup\n{what}\n{reason}"),
            Self::Execute(reason, code) => format!("execute\n{code}\n{reason}"),
        }
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '\n');
        let (kind, second, third) = (parts.next()?, parts.next()?, parts.next()?.to_owned());
        Some(match kind {
            "setup" => Self::Setup(second.to_owned(), third),
            _ => Self::Execute(third, second.parse().unwrap_or(127)),
        })
    }
}

/// Executes the command; returns only when that fails.
pub(super) fn execute(spec: &Spec) -> Problem {
    let Some(name) = spec.args.first() else {
        return Problem::Execute("no command was given".to_owned(), 127);
    };
    let Some(program) = find_program(name, &spec.env) else {
        let reason = format!("exec: \"{name}\": executable file not found in $PATH");
        return Problem::Execute(reason, 127);
    };
    let error = replace_process(&program, spec);
    let reason = match error.kind() {
        io::ErrorKind::NotFound if program.exists() => {
            format!("exec {name}: no such file or directory (its interpreter is missing)")
        }
        io::ErrorKind::NotFound => format!("exec {name}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("exec {name}: permission denied"),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            format!("exec {name}: exec format error")
        }
        _ => format!("exec {name}: {error}"),
    };
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Problem::Execute(reason, code)
}

fn find_program(name: &str, env: &[(String, String)]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let path = env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value);
    let candidates = path.split(':').map(|directory| match directory {
        "" => Path::new(".").join(name),
        directory => Path::new(directory).join(name),
    });
    candidates
        .into_iter()
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn replace_process(program: &Path, spec: &Spec) -> io::Error {
    let strings = |items: Vec<String>| -> Result<Vec<CString>, _> {
        items.into_iter().map(CString::new).collect()
    };
    let env = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let (Ok(program), Ok(args), Ok(env)) = (
        c_string(program.as_os_str()),
        strings(spec.args.clone()),
        strings(env),
    ) else {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            "an argument contains a NUL byte",
        );
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: both lists end with a null pointer and hold C strings that live until the call
    // returns, which it only does when it fails.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn c_string(text: &OsStr) -> Result<CString, std::ffi::NulError> {
    CString::new(text.as_bytes())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}
