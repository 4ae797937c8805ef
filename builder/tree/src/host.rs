//! Files of the machine: the store's own, the user's, the system's.
//!
//! Here the kernel may follow links on the way, for the names on it are nobody's but the user's.
//! What a step, an image or a context can put in place is opened through a [`TreeRoot`] instead.
//! Clippy forbids `std::fs` by path elsewhere, so that whoever opens a file says which kind it is.
//!
//! Functions named after one of `std::fs` return what that does.
//!
//! [`TreeRoot`]: crate::TreeRoot
#![expect(
    clippy::disallowed_methods,
    reason = "the one place where the kernel's own path walk is right"
)]
#![allow(
    clippy::missing_errors_doc,
    reason = "errors are those of the functions of the standard library"
)]

use std::fs::{File, Metadata, OpenOptions, Permissions, ReadDir};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// As [`File::open`].
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    File::open(path)
}

/// As [`OpenOptions::open`].
pub fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> Result<File> {
    options.open(path)
}

/// As [`File::create`].
pub fn create(path: impl AsRef<Path>) -> Result<File> {
    File::create(path)
}

/// Random bytes of the kernel's.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As [`std::fs::read`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    std::fs::read(path)
}

/// As [`std::fs::read_to_string`].
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    std::fs::read_to_string(path)
}

/// As [`std::fs::write`].
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, content)
}

/// As [`std::fs::read_dir`].
pub fn read_dir(path: impl AsRef<Path>) -> Result<ReadDir> {
    std::fs::read_dir(path)
}

/// As [`std::fs::create_dir`].
pub fn create_dir(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir(path)
}

/// As [`std::fs::create_dir_all`].
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(path)
}

/// As [`std::fs::remove_file`].
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    std::fs::remove_file(path)
}

/// As [`std::fs::remove_dir`].
pub fn remove_dir(path: impl AsRef<Path>) -> Result<()> {
    std::fs::remove_dir(path)
}

/// As [`std::fs::remove_dir_all`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::remove_dir_all(path)
}

/// As [`std::fs::rename`].
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    std::fs::rename(from, to)
}

/// As [`std::fs::hard_link`].
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
    std::fs::hard_link(original, link)
}

/// As [`std::fs::metadata`].
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    std::fs::metadata(path)
}

/// As [`std::fs::symlink_metadata`].
pub fn symlink_metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    std::fs::symlink_metadata(path)
}

/// As [`std::fs::set_permissions`].
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> Result<()> {
    std::fs::set_permissions(path, permissions)
}

/// As [`std::fs::canonicalize`].
pub fn canonicalize(path: impl AsRef<Path>) -> Result<PathBuf> {
    std::fs::canonicalize(path)
}

/// Listens at a socket that it makes, whose path may be longer than the 107 bytes of an address.
pub fn listen(path: impl AsRef<Path>) -> Result<UnixListener> {
    let (_held, short) = short_path(path.as_ref())?;
    UnixListener::bind(short)
}

/// Connects to a socket, whose path may be longer than the 107 bytes of an address.
pub fn connect(path: impl AsRef<Path>) -> Result<UnixStream> {
    let (_held, short) = short_path(path.as_ref())?;
    UnixStream::connect(short)
}

/// A path to a file by its open directory.
fn short_path(path: &Path) -> Result<(File, PathBuf)> {
    let no_name = || Error::new(ErrorKind::InvalidInput, "no name of a socket");
    let name = path.file_name().ok_or_else(no_name)?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = File::open(parent.unwrap_or(Path::new(".")))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let short = short.join(name);
    Ok((directory, short))
}

/// As [`Path::exists`].
pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

/// Writes a file beside its place and moves it there when it is whole: nobody sees half of it, and
/// what was there stays until then. Nothing is left of one that fails. A link that somebody has put
/// where the file is written is never followed.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let aside = aside(path);
    let written = create_new(&aside).and_then(|mut file| write(&mut file));
    let written = written.and_then(|value| std::fs::rename(&aside, path).map(|()| value));
    written.inspect_err(|_| _ = std::fs::remove_file(&aside))
}

/// Where [`replace`] writes a file before it is moved to its place.
#[must_use]
pub fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".kiln-{}", std::process::id()));
    aside.into()
}

/// What lies there was left by a process that died, or put there by somebody else.
fn create_new(path: &Path) -> Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            File::create_new(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn replaced_files_are_whole_and_go_through_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("other"), "kept").unwrap();
        std::fs::write(at("file"), "old").unwrap();
        let aside = at(&format!("file.kiln-{}", std::process::id()));
        std::os::unix::fs::symlink(at("other"), &aside).unwrap();
        let failed = replace(&at("file"), |file| {
            file.write_all(b"half")?;
            Err::<(), _>(ErrorKind::Interrupted.into())
        });
        assert!(failed.is_err());
        assert_eq!(read_to_string(at("file")).unwrap(), "old");
        std::os::unix::fs::symlink(at("other"), &aside).unwrap();
        replace(&at("file"), |file| file.write_all(b"new")).unwrap();
        assert_eq!(read_to_string(at("file")).unwrap(), "new");
        assert_eq!(read_to_string(at("other")).unwrap(), "kept");
        assert_eq!(read_dir(directory.path()).unwrap().count(), 2);
    }
}
