//! Mounts what the specification asks for, each as a detached mount that is then moved onto its
//! mount point by descriptor: no path is looked up twice.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::fail::{Context as _, Failure};
use super::target::{Shape, Targets};
use super::{overlay, place};
use crate::mount_attributes::{make_read_only, without_devices};
use crate::spec::{Mount, MountKind};
use crate::{Place, Spec};

/// Moves a detached mount onto a mount point.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// A detached mount of a new file system.
pub(crate) fn new_file_system(
    kind: &str,
    options: &[(&str, String)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached mount of a file or directory, with all that is mounted below it.
pub(crate) fn clone_of(source: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(source, "", flags)
}

/// Mounts one of the specification's mounts.
pub(crate) fn mount(mount: &Mount, targets: &mut Targets, spec: &Spec) -> Result<(), Failure> {
    let what = || format!("mount on {}", mount.target.display());
    let (detached, shape) = detached(mount, spec)?;
    if !spec.insecure {
        without_devices(&detached).with_context(what)?;
    }
    let target = targets.open(&mount.target, shape)?;
    attach(&detached, target).with_context(what)?;
    if is_written(&mount.kind) {
        targets.keep_writable(detached);
    }
    Ok(())
}

/// Whether a mount's files outlive the command, and may be changed by it.
fn is_written(kind: &MountKind) -> bool {
    match kind {
        MountKind::Bind { read_only, .. } => !read_only,
        MountKind::Overlay { upper, .. } => upper.is_some(),
        MountKind::Tmpfs { .. } | MountKind::File { .. } => false,
    }
}

fn detached(mount: &Mount, spec: &Spec) -> Result<(OwnedFd, Shape), Failure> {
    let what = || format!("mount on {}", mount.target.display());
    Ok(match &mount.kind {
        MountKind::Bind { source, read_only } => bind(source, *read_only)?,
        MountKind::Overlay { lowers, upper } => {
            let places = upper
                .as_ref()
                .map(|(upper, work)| (upper.as_path(), work.as_path()));
            let overlay = overlay::open(lowers, places, spec.in_user_namespace)?;
            if upper.is_none() {
                make_read_only(&overlay).with_context(what)?;
            }
            (overlay, Shape::Directory)
        }
        MountKind::Tmpfs { size, mode } => {
            let mut options = vec![("mode", format!("{mode:o}"))];
            options.extend(size.map(|size| ("size", size.to_string())));
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let memory = new_file_system("tmpfs", &options, attributes).with_context(what)?;
            (memory, Shape::Directory)
        }
        MountKind::File {
            content,
            mode,
            uid,
            gid,
        } => {
            let owner = (Uid::from_raw(uid.get()), Gid::from_raw(gid.get()));
            (file(content, *mode, owner).with_context(what)?, Shape::File)
        }
    })
}

fn bind(source: &Place, read_only: bool) -> Result<(OwnedFd, Shape), Failure> {
    let what = || format!("bind {source}");
    let opened = place::open(source).with_context(what)?;
    let about = rustix::fs::fstat(&opened).with_context(what)?;
    let shape = match FileType::from_raw_mode(about.st_mode) {
        // The caller has followed the links of an image inside of it.
        FileType::Symlink => return Err(Failure::new(what(), "it is a symbolic link")),
        FileType::Directory => Shape::Directory,
        _ => Shape::File,
    };
    let detached = clone_of(&opened).with_context(what)?;
    if read_only {
        make_read_only(&detached).with_context(what)?;
    }
    Ok((detached, shape))
}

/// A file in memory: alone in a tmpfs that can't be swapped where the kernel allows to say so.
fn file(content: &[u8], mode: u32, owner: (Uid, Gid)) -> rustix::io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let memory = match new_file_system("tmpfs", &[("noswap", String::new())], attributes) {
        Ok(memory) => memory,
        Err(_) => new_file_system("tmpfs", &[], MountAttrFlags::empty())?,
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&memory, "file", flags, Mode::from_raw_mode(mode))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    _ = rustix::fs::fchown(&file, Some(owner.0), Some(owner.1));
    std::fs::File::from(file)
        .write_all(content)
        .map_err(|_| rustix::io::Errno::NOSPC)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(&memory, "file", flags)
}
