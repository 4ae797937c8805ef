//! Mount points inside the root: found without ever leaving it, made when missing, removed
//! afterwards.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, unlinkat,
};
use rustix::io::Errno;

use super::fail::{Context as _, Failure};

/// What a mount point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    File,
    Directory,
}

/// The root directory, and what was made in it.
pub(crate) struct Targets {
    root: OwnedFd,
    made: Vec<(OwnedFd, PathBuf, Shape)>,
    opened: Vec<PathBuf>,
    writable: Vec<OwnedFd>,
}

impl Targets {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root,
            made: Vec::new(),
            opened: Vec::new(),
            writable: Vec::new(),
        }
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Keeps a mount that the command can write to and that outlives it.
    pub(crate) fn keep_writable(&mut self, mount: OwnedFd) {
        self.writable.push(mount);
    }

    /// The mounts that the command can write to, but for the root.
    pub(crate) fn writable(&self) -> &[OwnedFd] {
        &self.writable
    }

    /// Every mount point asked for, in order.
    pub(crate) fn opened(&self) -> &[PathBuf] {
        &self.opened
    }

    /// The file or directory at `path`, links followed inside the root, made when missing.
    pub(crate) fn open(&mut self, path: &Path, shape: Shape) -> Result<OwnedFd, Failure> {
        let what = || format!("make the mount point {}", path.display());
        self.opened.push(path.to_owned());
        match self.lookup(path) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT) => self.make(path, shape).with_context(what),
            Err(error) => Err(error).with_context(what),
        }
    }

    /// The directory at `path`, made when missing. What shows the machine is never mounted where an
    /// image's link leads: what is to be masked in it would then not be where it is looked for.
    pub(crate) fn open_plain(&mut self, path: &Path) -> Result<OwnedFd, Failure> {
        let name = path.strip_prefix("/").unwrap_or(path);
        match rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if !FileType::from_raw_mode(stat.st_mode).is_dir() => {
                let what = format!("make the mount point {}", path.display());
                let reason = "in the image it is a link or a file, and must be a directory";
                Err(Failure::new(what, reason))
            }
            _ => self.open(path, Shape::Directory),
        }
    }

    fn lookup(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inside
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(
            &self.root,
            inside,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    }

    fn make(&mut self, path: &Path, shape: Shape) -> rustix::io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.make_or_follow(&path, shape)? {
                Made::Here(made) => return Ok(made),
                Made::Elsewhere(target) => path = target,
            }
        }
        Err(Errno::LOOP)
    }

    fn make_or_follow(&mut self, path: &Path, shape: Shape) -> rustix::io::Result<Made> {
        let mut parent = self.lookup(Path::new("/"))?;
        let mut so_far = PathBuf::from("/");
        let names: Vec<_> = path
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .collect();
        for (at, name) in names.iter().enumerate() {
            let directory = so_far.clone();
            so_far.push(name);
            parent = match self.lookup(&so_far) {
                Ok(there) => there,
                Err(Errno::NOENT) => {
                    if let Ok(target) = readlinkat(&parent, name.as_os_str(), Vec::new()) {
                        let rest: PathBuf = names[at + 1..].iter().collect();
                        let target = OsStr::from_bytes(target.as_bytes());
                        return Ok(Made::Elsewhere(plain(&directory.join(target).join(rest))));
                    }
                    let last = at + 1 == names.len();
                    let shape = if last { shape } else { Shape::Directory };
                    self.make_one(parent, name.as_os_str().as_ref(), shape, &so_far)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(Made::Here(parent))
    }

    fn make_one(
        &mut self,
        parent: OwnedFd,
        name: &Path,
        shape: Shape,
        path: &Path,
    ) -> rustix::io::Result<OwnedFd> {
        match shape {
            Shape::Directory => mkdirat(&parent, name, Mode::from_raw_mode(0o755))?,
            Shape::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        let made = openat(&parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !STAYING.iter().any(|staying| path == Path::new(staying)) {
            self.made.push((parent, name.to_owned(), shape));
        }
        Ok(made)
    }

    /// Removes what was made, where it is still empty. All that was mounted on it must be
    /// unmounted.
    pub(crate) fn clean_up(&mut self) {
        for (parent, name, shape) in self.made.iter().rev() {
            match shape {
                Shape::Directory => _ = unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR),
                Shape::File if is_empty(parent, name) => {
                    _ = unlinkat(parent.as_fd(), name, AtFlags::empty());
                }
                Shape::File => {}
            }
        }
    }
}

/// Mount points that stay in the tree when it has none: BuildKit's steps leave them as well, and
/// whoever runs the image with a read-only root can make them no longer.
const STAYING: &[&str] = &["/dev", "/proc", "/sys"];

/// A mount point, or where a link to nothing says that it is.
enum Made {
    Here(OwnedFd),
    Elsewhere(PathBuf),
}

/// More links than this are a loop.
const MAX_LINKS: u32 = 40;

/// A path without `..`, which stops at the root.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => _ = plain.pop(),
            _ => {}
        }
    }
    plain
}

fn is_empty(parent: &OwnedFd, name: &Path) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size == 0)
}
