//! `/dev` as the OCI runtime specification describes it (config-linux.md, "Default Devices").

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::fail::{Context as _, Failure};
use super::mount::{attach, clone_of, new_file_system};

const NODES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Mounts `/dev` on `target`. The caller's umask must be 0.
pub(crate) fn mount(target: &OwnedFd, shm_size: u64) -> Result<(), Failure> {
    let what = "prepare /dev";
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let options = [("mode", "755".to_owned()), ("size", "65536k".to_owned())];
    let dev = new_file_system("tmpfs", &options, attributes).context(what)?;
    attach(&dev, target).context(what)?;
    for (name, major, minor) in NODES {
        node(&dev, name, *major, *minor).context(what)?;
    }
    for (points_to, name) in LINKS {
        symlinkat(*points_to, &dev, *name).context(what)?;
    }
    let shm = [("mode", "1777".to_owned()), ("size", shm_size.to_string())];
    let pts = [("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    folder(&dev, "shm", new_file_system("tmpfs", &shm, quiet)).context(what)?;
    folder(&dev, "pts", new_file_system("devpts", &pts, no_exec)).context(what)?;
    folder(&dev, "mqueue", new_file_system("mqueue", &[], quiet)).context(what)
}

fn folder(dev: &OwnedFd, name: &str, mount: rustix::io::Result<OwnedFd>) -> rustix::io::Result<()> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    let place = openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(mount?, place)
}

/// A device node; in a user namespace, where none can be made, the host's.
fn node(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> rustix::io::Result<()> {
    let (mode, device) = (
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(major, minor),
    );
    if mknodat(dev, name, FileType::CharacterDevice, mode, device).is_ok() {
        return Ok(());
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, name, flags, mode)?);
    let place = openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(clone_of(&Path::new("/dev").join(name))?, place)
}
