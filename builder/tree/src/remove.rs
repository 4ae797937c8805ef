//! Removes what is in a tree, whatever somebody does to it meanwhile: names are removed from open
//! directories, and no link is followed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_graph::ImagePath;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::TreeRoot;
use crate::held::HeldPath;
use crate::read::{hold_in, names_in};

/// Deeper directories are taken apart instead of descended into: a step can make them deeper than
/// any stack, and each level keeps a descriptor open.
const MAX_DEPTH: u32 = 32;

impl TreeRoot {
    /// Removes what lies at a path, with all below it.
    ///
    /// # Errors
    /// When there is nothing, a link on the way, or something can't be removed.
    pub fn remove(&self, path: &ImagePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(remove_name(parent.as_fd(), name, 0)?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn remove_directory(&self, path: &ImagePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }
}

/// Removes a file or directory of the caller's own with all below it; what can't be removed stays.
/// The path's last name is not followed, those before it are the host's business.
pub fn remove_all(path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(parent) = openat(CWD, parent, flags, Mode::empty()) {
        _ = remove_name(parent.as_fd(), name.as_bytes(), 0);
    }
}

fn remove_name(parent: BorrowedFd<'_>, name: &[u8], depth: u32) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    if unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    let directory = open_writable(parent, name)?;
    if depth < MAX_DEPTH {
        let names = names_in(&directory).map_err(|error| errno(&error))?;
        let one = |name: &Vec<u8>| _ = remove_name(directory.as_fd(), name, depth + 1);
        names.par_iter().with_min_len(32).for_each(one);
    } else {
        take_apart(&directory)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Removes what is in a directory by moving each directory in it up into it, without recursion.
fn take_apart(top: &OwnedFd) -> rustix::io::Result<()> {
    let mut open = remove_files(top)?;
    let mut moved: u64 = 0;
    while let Some(name) = open.pop() {
        let Ok(directory) = open_writable(top.as_fd(), &name) else {
            continue;
        };
        for below in remove_files(&directory)? {
            let free = loop {
                moved += 1;
                let free = format!("~{moved}").into_bytes();
                if hold_in(top, &free).is_err() {
                    break free;
                }
            };
            if renameat(&directory, below.as_slice(), top, free.as_slice()).is_ok() {
                open.push(free);
            }
        }
        _ = unlinkat(top, name.as_slice(), AtFlags::REMOVEDIR);
    }
    Ok(())
}

/// Removes all but the directories that aren't empty, and names those.
fn remove_files(directory: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut left = names_in(directory).map_err(|error| errno(&error))?;
    left.retain(|name| {
        let gone = unlinkat(directory, name.as_slice(), AtFlags::empty())
            .or_else(|_| unlinkat(directory, name.as_slice(), AtFlags::REMOVEDIR));
        gone.is_err()
    });
    Ok(left)
}

/// Opens a directory to list it and to remove names in it, whatever its mode.
fn open_writable(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let held = hold_in(parent, name)?;
    if fstat(&held)?.st_mode & 0o700 != 0o700 {
        // Of a link this would be the mode of nothing: links have none.
        _ = HeldPath::of(&held).set_mode(Mode::RWXU);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&held, ".", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn deep(at: &Path, depth: u32) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, at, flags, Mode::empty()).unwrap();
        let name = "a-directory-of-a-hostile-step";
        for level in 0..depth {
            mkdirat(&at, name, Mode::RWXU).unwrap();
            // Names like those that taking it apart makes.
            mkdirat(&at, format!("~{level}"), Mode::RWXU).unwrap();
            at = openat(&at, name, flags, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn directories_deeper_than_paths_can_be_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for depth in [1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 2, 3000] {
            let top = directory.path().join("top");
            std::fs::create_dir(&top).unwrap();
            deep(&top, depth);
            remove_all(&top);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn links_go_and_what_they_point_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("kept/deep")).unwrap();
        std::fs::write(at("kept/deep/file"), "").unwrap();
        std::fs::create_dir_all(at("top/closed/more")).unwrap();
        symlink(at("kept"), at("top/link")).unwrap();
        symlink(at("kept"), at("top/closed/more/link")).unwrap();
        for name in ["top/closed/more", "top/closed", "top"] {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_all(&at("top"));
        assert!(!at("top").exists());
        symlink(at("kept"), at("top")).unwrap();
        remove_all(&at("top"));
        assert!(std::fs::symlink_metadata(at("top")).is_err());
        assert!(at("kept/deep/file").exists());
        let root = TreeRoot::at(directory.path());
        assert!(root.remove_directory(&"/kept".into()).is_err());
        root.remove(&"/kept/deep".into()).unwrap();
        root.remove_directory(&"/kept".into()).unwrap();
        assert!(root.remove(&"/kept".into()).is_err());
    }

    /// While a tree is removed, a directory in it and a link to the outside change places.
    #[test]
    fn exchanged_names_lead_nowhere() {
        use rustix::fs::{RenameFlags, renameat_with};
        use std::sync::atomic::{AtomicBool, Ordering};
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        let make = |at: &Path| {
            std::fs::create_dir(at).unwrap();
            for number in 0..400 {
                std::fs::write(at.join(format!("f{number}")), "").unwrap();
            }
        };
        make(&kept);
        for _ in 0..20 {
            let top = directory.path().join("top");
            std::fs::create_dir(&top).unwrap();
            make(&top.join("d"));
            symlink(&kept, top.join("l")).unwrap();
            let held = std::fs::File::open(&top).unwrap();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        _ = renameat_with(&held, "d", &held, "l", RenameFlags::EXCHANGE);
                    }
                });
                remove_all(&top);
                done.store(true, Ordering::Relaxed);
            });
            remove_all(&top);
            assert!(!top.exists());
            assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 400);
        }
    }
}
