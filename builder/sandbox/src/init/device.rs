//! `/dev` as the OCI runtime specification describes it (config-linux.md, "Default Devices").

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::fail::{Context as _, Failure};
use super::mount::{attach, clone_of, new_file_system};
use super::place;
use crate::Spec;

pub(super) const NODES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Mounts the device nodes on `target`, to be taken from there: in `/dev` itself a step could make
/// nodes of other devices. In a user namespace, where none can be made, there are none. The
/// caller's umask must be 0.
pub(crate) fn nodes(target: &OwnedFd) -> Result<OwnedFd, Failure> {
    let what = "make device nodes";
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "755".to_owned())];
    let nodes = new_file_system("tmpfs", &options, attributes).context(what)?;
    attach(&nodes, target).context(what)?;
    for (name, major, minor) in NODES {
        let device = rustix::fs::makedev(*major, *minor);
        let mode = Mode::from_raw_mode(0o666);
        _ = mknodat(&nodes, *name, FileType::CharacterDevice, mode, device);
    }
    Ok(nodes)
}

/// Mounts `/dev` on `target`. The caller's umask must be 0.
pub(crate) fn mount(target: &OwnedFd, nodes: &OwnedFd, spec: &Spec) -> Result<OwnedFd, Failure> {
    let what = "prepare /dev";
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    if !spec.insecure {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    let options = [("mode", "755".to_owned()), ("size", "65536k".to_owned())];
    let dev = new_file_system("tmpfs", &options, attributes).context(what)?;
    attach(&dev, target).context(what)?;
    for (name, _, _) in NODES {
        node(&dev, nodes, name).context(what)?;
    }
    for (points_to, name) in LINKS {
        symlinkat(*points_to, &dev, *name).context(what)?;
    }
    let shm = [
        ("mode", "1777".to_owned()),
        ("size", spec.shm_size.to_string()),
    ];
    let pts = [("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    directory(&dev, "shm", new_file_system("tmpfs", &shm, quiet)).context(what)?;
    directory(&dev, "pts", new_file_system("devpts", &pts, no_exec)).context(what)?;
    directory(&dev, "mqueue", new_file_system("mqueue", &[], quiet)).context(what)?;
    Ok(dev)
}

fn directory(
    dev: &OwnedFd,
    name: &str,
    mount: rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<()> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    let place = openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(mount?, place)
}

/// A device node: ours, or the host's where none can be made.
fn node(dev: &OwnedFd, nodes: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, name, flags, mode)?);
    let place = openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = match open_tree(nodes, name, flags) {
        Ok(own) => own,
        Err(_) => clone_of(&place::open(&PathBuf::from("/dev").join(name).into())?)?,
    };
    attach(node, place)
}
