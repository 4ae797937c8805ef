//! Reads the small files that a context holds for kiln itself. A context may be a stranger's: links
//! in it lead nowhere else, and what is no file, or very large, isn't read.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// No build file or ignore list is larger, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// Where a file of somebody else's context is: whatever name was given, it begins at the context.
pub(crate) fn below(context: &Path, name: &Path) -> PathBuf {
    context.join(name.strip_prefix("/").unwrap_or(name))
}

/// The bytes of a file in `directory`; `path` is relative to it.
///
/// # Errors
/// When there is none, or a link leads out of the directory, or it is no file, or too large.
pub fn read(directory: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())?;
    // A pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(&root, path, flags, Mode::empty(), beneath);
    let file = opened.map_err(|error| match error {
        Errno::XDEV => refused("a link in it leads out of the build context; name the file itself"),
        other => other.into(),
    })?;
    let about = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused("it is no file"));
    }
    let mut bytes = Vec::new();
    _ = std::fs::File::from(file)
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(refused("it is larger than 16 MiB")),
        false => Ok(bytes),
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_inside() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/file"), "x").unwrap();
        symlink("d/file", at("in")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        symlink("..", at("up")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let kind = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, Mode::RUSR, 0).unwrap();
        std::fs::File::create(at("huge"))
            .unwrap()
            .set_len(100 << 30)
            .unwrap();
        let read = |name: &str| {
            let path = below(directory.path(), Path::new(name));
            read(
                directory.path(),
                path.strip_prefix(directory.path()).unwrap(),
            )
        };
        assert_eq!(read("d/file").unwrap(), b"x");
        assert_eq!(read("in").unwrap(), b"x");
        assert_eq!(read("/d/file").unwrap(), b"x");
        for name in [
            "/etc/passwd",
            "//etc/passwd",
            "/../etc/passwd",
            "out",
            "up/x",
            "../x",
            "loop",
            "pipe",
            "d",
            "huge",
            "none",
        ] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
