//! Hides what a step has no business with: the masked and read-only paths that container runtimes
//! use by default (OCI runtime specification, config-linux.md, "Masked Paths", "Readonly Paths").

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::fail::{Context as _, Failure};
use super::mount::{attach, make_read_only, new_file_system};

const HIDDEN: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

const READ_ONLY: &[&str] = &[
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

/// Masks paths below `root`, where `/proc`, `/sys` and `/dev` are mounted already.
pub(crate) fn mask(root: &OwnedFd) -> Result<(), Failure> {
    for path in HIDDEN {
        hide(root, path).with_context(|| format!("mask /{path}"))?;
    }
    for path in READ_ONLY {
        freeze(root, path).with_context(|| format!("protect /{path}"))?;
    }
    Ok(())
}

fn find(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    openat(
        root,
        Path::new(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

fn hide(root: &OwnedFd, path: &str) -> std::io::Result<()> {
    let Some(place) = find(root, path) else {
        return Ok(());
    };
    let stat = rustix::fs::fstat(&place)?;
    let cover = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        new_file_system("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        copy_of(root, "dev/null")?
    };
    Ok(attach(cover, place)?)
}

fn freeze(root: &OwnedFd, path: &str) -> std::io::Result<()> {
    let Some(place) = find(root, path) else {
        return Ok(());
    };
    let cover = copy_of(root, path)?;
    make_read_only(&cover)?;
    Ok(attach(cover, place)?)
}

fn copy_of(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(root, path, flags)
}
