//! `/dev` without mounts: device nodes, which only a container with CAP_MKNOD can make, and which
//! work only where the store's file system isn't mounted `nodev`.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat};

use super::super::device::{LINKS, NODES};
use super::super::fail::{Context as _, Failure};
use super::guest::Guests;

/// Brings `/dev` into the root.
pub(super) fn bring(guests: &mut Guests) -> Result<(), Failure> {
    let dev = guests.directory(Path::new("/dev"), 0o755)?;
    for (name, major, minor) in NODES {
        let device = rustix::fs::makedev(*major, *minor);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(&dev, *name, FileType::CharacterDevice, mode, device).context(nodes_need())?;
    }
    for (points_to, name) in LINKS.iter().filter(|(_, name)| *name != "ptmx") {
        symlinkat(*points_to, &dev, *name).context("make /dev")?;
    }
    for name in ["shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o1777)).context("make /dev")?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat(&dev, "null", flags, Mode::empty())
        .map(drop)
        .context("open /dev/null in the store (is its file system mounted with nodev? Put KILN_ROOT on another volume)")
}

/// What was tried, with what it takes. Nobody makes device nodes in a user namespace but whoever may
/// mount, which is then as confined as all else.
fn nodes_need() -> &'static str {
    match crate::identity::is_in_user_namespace() {
        true => {
            "make device nodes (in a container with a user namespace of its own steps need mounts instead: in Kubernetes, beside hostUsers: false, add SYS_ADMIN to the container's capabilities)"
        }
        false => {
            "make device nodes (that needs the capability CAP_MKNOD: in Kubernetes add MKNOD to the container's capabilities)"
        }
    }
}
