//! Files and directories that results are written to: looked at before anything runs, and written
//! at once.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::Path;

use kiln_engine::{EngineError, Meter};
use kiln_tree::host;

use crate::Error;

/// Whether a file can be written there, as far as can be known before: tries it beside the file.
///
/// # Errors
/// When it can't.
pub fn check_file(what: &str, path: &Path) -> Result<(), Error> {
    if path == Path::new("-") {
        return refuse_terminal(what);
    }
    if path.is_dir() {
        let text = format!("{what} {}: this is a directory", path.display());
        return Err(Error::Usage(text));
    }
    if is_special(path) {
        return Ok(());
    }
    let tried = try_at(&host::aside(path));
    tried.map_err(|source| cannot_write(what, path, source))
}

/// The same for a directory, which need not be there.
///
/// # Errors
/// When it can't be made or written.
pub fn check_directory(what: &str, path: &Path) -> Result<(), Error> {
    let mut missing = Vec::new();
    let mut at = path;
    while !at.exists() && !at.as_os_str().is_empty() {
        missing.push(at);
        at = at.parent().unwrap_or(Path::new(""));
    }
    let made = std::fs::create_dir_all(path).and_then(|()| {
        let aside = path.join(format!(".kiln-{}", std::process::id()));
        try_at(&aside)
    });
    for directory in missing {
        _ = std::fs::remove_dir(directory);
    }
    made.map_err(|source| cannot_write(what, path, source))
}

/// Makes a file and removes it, following no link. What lies there was left by a process that died.
fn try_at(aside: &Path) -> std::io::Result<()> {
    _ = std::fs::remove_file(aside);
    File::create_new(aside).and_then(|_| std::fs::remove_file(aside))
}

fn refuse_terminal(what: &str) -> Result<(), Error> {
    match std::io::stdout().is_terminal() {
        true => Err(Error::Usage(format!(
            "{what} -: standard output is a terminal; redirect it, or give a file"
        ))),
        false => Ok(()),
    }
}

fn cannot_write(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        what: format!("{what}: cannot write {}", path.display()),
        source,
    }
}

/// Whether it is a device, a pipe or a link to one (`/dev/null`, `/dev/fd/3`): nothing can be put
/// in its place.
pub(super) fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir())
}

pub(super) fn fail(path: &Path, source: std::io::Error) -> Error {
    EngineError::Output {
        what: path.display().to_string(),
        source,
    }
    .into()
}

/// Writes a file at once: nobody sees half of it.
///
/// # Errors
/// When it can't be written.
pub fn write_file(
    dest: &Path,
    meter: &Meter<'_>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Error> {
    if dest == Path::new("-") {
        let mut out = meter.writer(std::io::stdout().lock());
        return write(&mut out).map_err(|source| fail(dest, source));
    }
    let buffered = |file: &mut File| {
        let mut out = BufWriter::with_capacity(1 << 20, meter.writer(file));
        write(&mut out)?;
        out.flush()
    };
    let written = match is_special(dest) {
        true => File::options()
            .write(true)
            .open(dest)
            .and_then(|mut file| buffered(&mut file)),
        false => host::replace(dest, buffered),
    };
    written.map_err(|source| fail(dest, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tried_without_leaving_anything() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "old").unwrap();
        assert!(check_file("-o", &at("new.tar")).is_ok());
        assert!(check_file("-o", &at("file")).is_ok());
        assert!(check_file("-o", &at("none/new.tar")).is_err());
        assert!(check_file("-o", directory.path()).is_err());
        assert!(check_file("-o", Path::new("/dev/null")).is_ok());
        assert!(check_directory("-o", &at("a/b/c")).is_ok());
        assert!(check_directory("-o", &at("file/b")).is_err());
        assert!(check_directory("-o", Path::new("/proc/nowhere/x")).is_err());
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(std::fs::read(at("file")).unwrap(), b"old");
    }

    #[test]
    fn devices_are_written_to_and_not_replaced() {
        let null = Path::new("/dev/null");
        let meter = Meter::new(&|_| {}, "write", None);
        write_file(null, &meter, |out| out.write_all(b"x")).unwrap();
        assert!(is_special(Path::new("/dev/null")));
    }
}
