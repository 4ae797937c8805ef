//! Opens paths beneath a directory descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_graph::ImagePath;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Whether the kernel has `openat2` (Linux 5.6).
static HAS_OPENAT2: AtomicBool = AtomicBool::new(true);

/// Opens `path` beneath the directory `root` without following any link: one in the middle of the
/// path is an error, and so is one at its end unless `flags` hold the link itself (`O_PATH`).
/// The error is `ELOOP` or `ENOTDIR` where a link stands.
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: &ImagePath,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let (root, flags) = (root.as_fd(), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC);
    if HAS_OPENAT2.load(Ordering::Relaxed) {
        match open_at_once(root, path, flags, mode) {
            Err(Errno::NOSYS) => HAS_OPENAT2.store(false, Ordering::Relaxed),
            // Filters of container runtimes that don't know the call answer with EPERM.
            Err(Errno::PERM) => {}
            other => return Ok(other?),
        }
    }
    Ok(open_step_by_step(root, path, flags, mode)?)
}

fn open_at_once(
    root: BorrowedFd<'_>,
    path: &ImagePath,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let inside = match path.is_root() {
        true => Path::new("."),
        false => path.relative(),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, inside, flags, mode, resolve) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn open_step_by_step(
    root: BorrowedFd<'_>,
    path: &ImagePath,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names: Vec<&[u8]> = path.components().collect();
    let last = names.pop().unwrap_or(b".");
    let mut at: Option<OwnedFd> = None;
    for name in names {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(openat(from, name, through, Mode::empty())?);
    }
    openat(at.as_ref().map_or(root, AsFd::as_fd), last, flags, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    type Opener = fn(BorrowedFd<'_>, &ImagePath, OFlags, Mode) -> rustix::io::Result<OwnedFd>;

    fn open_dir(path: &Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    /// Both ways agree about every kind of path.
    #[test]
    fn no_link_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "1").unwrap();
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), "2").unwrap();
        symlink(outside.path(), at("out")).unwrap();
        symlink("a", at("in")).unwrap();
        symlink("file", at("a/b/link")).unwrap();
        symlink("/proc/self/root", at("magic")).unwrap();
        let root = open_dir(tree.path());
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cases = [
            ("/", read, true),
            ("/a/b/file", read, true),
            ("/a/b/none", read, false),
            ("/a/b/file/x", read, false),
            ("/out", read, false),
            ("/out/secret", read, false),
            ("/out/secret", held, false),
            ("/in/b/file", read, false),
            ("/a/b/link", read, false),
            ("/a/b/link", held, true),
            ("/magic", read, false),
            ("/magic/etc", held, false),
        ];
        for opener in [open_at_once as Opener, open_step_by_step] {
            for (path, flags, opens) in cases {
                let found = opener(root.as_fd(), &path.into(), flags, Mode::empty());
                assert_eq!(found.is_ok(), opens, "{path} {flags:?}: {found:?}");
            }
        }
    }

    #[test]
    fn files_are_made_beneath_only() {
        let outside = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        symlink(outside.path(), tree.path().join("out")).unwrap();
        symlink(outside.path().join("new"), tree.path().join("new")).unwrap();
        let root = open_dir(tree.path());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        for opener in [open_at_once as Opener, open_step_by_step] {
            for path in ["/out/new", "/new"] {
                assert!(opener(root.as_fd(), &path.into(), flags, Mode::RWXU).is_err());
            }
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
