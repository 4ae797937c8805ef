//! What is brought into a root for the time of a command, in place of what the image has there.
//!
//! What the image has is moved aside, out of the root, and back again afterwards. What is lent (a
//! cache volume, a copy made for the command) is moved in and out by `rename(2)`; it is held open
//! meanwhile, and so found again wherever the command has moved it. Secrets are emptied through
//! the descriptor that wrote them before they are removed, so no link to one keeps its content.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid, fchmod, fchown,
    mkdirat, openat, openat2, readlinkat, renameat, renameat_with, stat, statat,
};
use rustix::io::Errno;

use super::super::fail::{Context as _, Failure};
use super::super::target::{Shape, Targets};

/// The root, and all that was brought into it.
pub(crate) struct Guests {
    targets: Targets,
    aside: OwnedFd,
    guests: Vec<Guest>,
    moved: u32,
}

/// Where something is in the root: a directory, and a name in it.
struct Spot {
    parent: OwnedFd,
    name: OsString,
}

struct Guest {
    spot: Spot,
    /// The name aside of what the image has there.
    replaced: OsString,
    kind: Kind,
}

enum Kind {
    /// Made for the command, and thrown away.
    Made,
    /// A file with a content, emptied first.
    File(File),
    Lent(Lent),
}

/// What belongs to somebody else.
struct Lent {
    from: PathBuf,
    opened: OwnedFd,
}

/// Whether a path of the host is a socket.
pub(crate) fn is_socket(path: &Path) -> bool {
    stat(path).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Socket)
}

impl Guests {
    pub(crate) fn new(root: OwnedFd, aside: OwnedFd) -> Self {
        Self {
            targets: Targets::new(root),
            aside,
            guests: Vec::new(),
            moved: 0,
        }
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        self.targets.root()
    }

    /// A new directory.
    pub(crate) fn directory(&mut self, target: &Path, mode: u32) -> Result<OwnedFd, Failure> {
        let what = || format!("make {}", target.display());
        let (spot, replaced) = self.free(target, Shape::Directory)?;
        mkdirat(&spot.parent, &spot.name, Mode::from_raw_mode(mode)).with_context(what)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            openat(&spot.parent, &spot.name, flags, Mode::empty()).with_context(what)?;
        self.keep(spot, replaced, Kind::Made);
        Ok(directory)
    }

    /// A new file.
    pub(crate) fn file(
        &mut self,
        target: &Path,
        content: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), Failure> {
        let what = || format!("write {}", target.display());
        let (spot, replaced) = self.free(target, Shape::File)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&spot.parent, &spot.name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.with_context(what)?);
        let written = file.write_all(content).and_then(|()| {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            Ok(fchmod(&file, Mode::from_raw_mode(mode))?)
        });
        self.keep(spot, replaced, Kind::File(file));
        written.with_context(what)
    }

    /// A place for a socket, as a path that is short enough for one.
    pub(crate) fn socket(&mut self, target: &Path) -> Result<PathBuf, Failure> {
        let (spot, replaced) = self.free(target, Shape::File)?;
        let directory = format!("/proc/self/fd/{}", spot.parent.as_raw_fd());
        let path = Path::new(&directory).join(&spot.name);
        self.keep(spot, replaced, Kind::Made);
        Ok(path)
    }

    /// Moves a file or directory of the caller's in.
    pub(crate) fn lend(&mut self, target: &Path, from: PathBuf) -> Result<(), Failure> {
        let what = || format!("move {} to {}", from.display(), target.display());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, &from, flags, Mode::empty()).with_context(what)?;
        let is_directory = is_directory(&opened).with_context(what)?;
        let shape = if is_directory {
            Shape::Directory
        } else {
            Shape::File
        };
        let (spot, replaced) = self.free(target, shape)?;
        renameat(CWD, &from, &spot.parent, &spot.name).with_context(what)?;
        self.keep(spot, replaced, Kind::Lent(Lent { from, opened }));
        Ok(())
    }

    /// Finds a place, links followed inside the root, and moves aside what is there.
    fn free(&mut self, target: &Path, shape: Shape) -> Result<(Spot, OsString), Failure> {
        let what = || format!("make the mount point {}", target.display());
        let there = self.targets.open(target, shape)?;
        let spot = self.spot(&there).with_context(what)?;
        let aside = self.next_name("aside");
        renameat(&spot.parent, &spot.name, &self.aside, &aside).with_context(what)?;
        Ok((spot, aside))
    }

    /// Where in the root something lies that was opened there.
    fn spot(&self, there: &OwnedFd) -> io::Result<Spot> {
        let (root, path) = (path_of(self.root())?, path_of(there)?);
        let inside = path.strip_prefix(&root).map_err(io::Error::other)?;
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            return Err(io::Error::other("it is the root itself"));
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = openat2(self.root(), parent, flags, Mode::empty(), resolve)?;
        let name = name.to_owned();
        Ok(Spot { parent, name })
    }

    fn next_name(&mut self, kind: &str) -> OsString {
        self.moved += 1;
        format!("{kind}-{}", self.moved).into()
    }

    fn keep(&mut self, spot: Spot, replaced: OsString, kind: Kind) {
        self.guests.push(Guest {
            spot,
            replaced,
            kind,
        });
    }

    /// Takes everything out again, the last first, and puts back what was there before. All is
    /// tried, whatever fails.
    pub(crate) fn leave(mut self) -> Result<(), Failure> {
        let mut failed = None;
        for guest in std::mem::take(&mut self.guests).into_iter().rev() {
            if let Err(failure) = self.take_out(guest) {
                failed.get_or_insert(failure);
            }
        }
        self.targets.clean_up();
        failed.map_or(Ok(()), Err)
    }

    fn take_out(&mut self, guest: Guest) -> Result<(), Failure> {
        let what = || format!("take out {}", guest.spot.name.display());
        let given_back = match guest.kind {
            Kind::Made => Ok(()),
            Kind::File(file) => file.set_len(0).with_context(what),
            Kind::Lent(lent) => lent.give_back(),
        };
        let Spot { parent, name } = &guest.spot;
        let gone = self.next_name("gone");
        match renameat(parent, name, &self.aside, &gone) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(what),
        }
        let back = renameat_with(
            &self.aside,
            &guest.replaced,
            parent,
            name,
            RenameFlags::NOREPLACE,
        );
        match back {
            // The command has removed the directory: what was in it is gone with it.
            Ok(()) | Err(Errno::NOENT) => given_back,
            Err(error) => Err(error).with_context(what),
        }
    }
}

impl Lent {
    /// Moves it back from wherever the command has left it; a directory that was removed comes back
    /// empty.
    fn give_back(self) -> Result<(), Failure> {
        let what = || format!("move back {}", self.from.display());
        let about = rustix::fs::fstat(&self.opened).with_context(what)?;
        let is_directory = is_directory(&self.opened).with_context(what)?;
        let moved = move_to(&self.opened, &self.from).with_context(what)?;
        match (moved, is_directory) {
            (true, _) => Ok(()),
            (false, false) => Ok(()),
            (false, true) => {
                let mode = Mode::from_raw_mode(about.st_mode & 0o7777);
                mkdirat(CWD, &self.from, mode).with_context(what)?;
                let (uid, gid) = (Uid::from_raw(about.st_uid), Gid::from_raw(about.st_gid));
                rustix::fs::chownat(CWD, &self.from, Some(uid), Some(gid), AtFlags::empty())
                    .with_context(what)
            }
        }
    }
}

fn is_directory(opened: impl AsFd) -> io::Result<bool> {
    let about = rustix::fs::fstat(opened)?;
    Ok(FileType::from_raw_mode(about.st_mode).is_dir())
}

/// Moves what is held from wherever it lies now to a path of the caller's; whether it lay anywhere.
fn move_to(held: &OwnedFd, to: &Path) -> io::Result<bool> {
    let path = path_of(held)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(false);
    };
    // The path of a descriptor has no links: where there is one now, somebody has put it there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS;
    let parent = match openat2(CWD, parent, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        opened => opened?,
    };
    if !is_at(held, &parent, Path::new(name))? {
        return Ok(false);
    }
    renameat(&parent, name, CWD, to)?;
    match is_at(held, CWD, to)? {
        true => Ok(true),
        // It was exchanged between the two calls.
        false => {
            renameat(CWD, to, &parent, name)?;
            Ok(false)
        }
    }
}

/// Whether what is held has this name.
fn is_at(held: &OwnedFd, directory: impl AsFd, name: &Path) -> io::Result<bool> {
    let about = rustix::fs::fstat(held)?;
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok((found.st_dev, found.st_ino) == (about.st_dev, about.st_ino)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Where something that is open lies now.
fn path_of(opened: &OwnedFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let path = readlinkat(CWD, link, Vec::new())?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}

/// Makes a file below a directory that nobody else sees yet, with the directories above it.
pub(crate) fn write_below(directory: &OwnedFd, path: &Path, content: &[u8]) -> io::Result<()> {
    let (parent, name) = below(directory, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&parent, name, flags, Mode::from_raw_mode(0o444))?;
    File::from(file).write_all(content)
}

/// The directory that a path below another names, made where it is missing, and the path's last name.
pub(crate) fn below<'a>(directory: &OwnedFd, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let mut parent = directory.try_clone()?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        match mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        parent = openat(&parent, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok((parent, path.file_name().unwrap_or_default()))
}
