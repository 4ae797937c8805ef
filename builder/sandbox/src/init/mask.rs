//! Hides what a step has no business with: the masked and read-only paths that container runtimes
//! use by default (OCI runtime specification, config-linux.md, "Masked Paths", "Readonly Paths").

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::fail::{Context as _, Failure};
use super::mount::{attach, new_file_system};
use crate::mount_attributes::make_read_only;

const HIDDEN_IN_PROC: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const HIDDEN_IN_SYS: &[&str] = &["devices/virtual/powercap", "firmware"];
const READ_ONLY_IN_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

const COPY: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);
const EMPTY_PATH: OpenTreeFlags = OpenTreeFlags::AT_EMPTY_PATH;

/// Masks paths of the mounted `/proc` and `/sys`; files by `null`, an open `/dev/null`.
pub(crate) fn mask(proc: &OwnedFd, sys: &OwnedFd, null: &OwnedFd) -> Result<(), Failure> {
    for (directory, name, paths) in [(proc, "proc", HIDDEN_IN_PROC), (sys, "sys", HIDDEN_IN_SYS)] {
        for path in paths {
            hide(directory, path, null).with_context(|| format!("mask /{name}/{path}"))?;
        }
    }
    for path in READ_ONLY_IN_PROC {
        freeze(proc, path).with_context(|| format!("protect /proc/{path}"))?;
    }
    Ok(())
}

fn find(directory: &OwnedFd, path: &str) -> Option<OwnedFd> {
    openat(
        directory,
        Path::new(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

fn hide(directory: &OwnedFd, path: &str, null: &OwnedFd) -> std::io::Result<()> {
    let Some(place) = find(directory, path) else {
        return Ok(());
    };
    let stat = rustix::fs::fstat(&place)?;
    let cover = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        new_file_system("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        open_tree(null, "", EMPTY_PATH | COPY)?
    };
    Ok(attach(cover, place)?)
}

fn freeze(directory: &OwnedFd, path: &str) -> std::io::Result<()> {
    let Some(place) = find(directory, path) else {
        return Ok(());
    };
    let cover = copy_of(directory, path)?;
    make_read_only(&cover)?;
    Ok(attach(cover, place)?)
}

fn copy_of(directory: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    open_tree(directory, path, COPY)
}
