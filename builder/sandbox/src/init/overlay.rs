//! Mounts overlayfs.
//!
//! By `fsconfig("lowerdir+")`, one layer a call (Linux 6.8): the old option string ends at a page.
//! On older kernels by `mount(2)` from a folder of short links to the layers. Redirections,
//! metadata-only copies and the index are off: the upper folder must make sense by itself.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::fail::{Context as _, Failure, check};

/// Where an overlay's changes go, and its working folder.
pub(crate) type Upper<'a> = Option<(&'a Path, &'a Path)>;

/// An overlay of `lowers` (lowest first), mounted nowhere yet.
pub(crate) fn open(
    lowers: &[PathBuf],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> Result<OwnedFd, Failure> {
    match open_new(lowers, upper, in_user_namespace) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            open_old(lowers, upper, in_user_namespace)
        }
        other => other.with_context(|| format!("mount an overlay of {} layers", lowers.len())),
    }
}

fn open_new(
    lowers: &[PathBuf],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in lowers.iter().rev() {
        fsconfig_set_string(&context, "lowerdir+", lower)?;
    }
    if let Some((upper, work)) = upper {
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
        fsconfig_set_flag(&context, "volatile")?;
    }
    if in_user_namespace {
        fsconfig_set_flag(&context, "userxattr")?;
    } else {
        for (name, value) in [
            ("redirect_dir", "off"),
            ("metacopy", "off"),
            ("index", "off"),
        ] {
            fsconfig_set_string(&context, name, value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

fn open_old(
    lowers: &[PathBuf],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> Result<OwnedFd, Failure> {
    let what = || format!("mount an overlay of {} layers", lowers.len());
    let links = mount_scratch().with_context(what)?;
    let mut options = String::from("lowerdir=");
    for (number, lower) in lowers.iter().enumerate().rev() {
        symlink(lower, links.join(number.to_string())).with_context(what)?;
        _ = write!(options, "{number}{}", if number > 0 { ":" } else { "" });
    }
    if let Some((upper, work)) = upper {
        symlink(upper, links.join("u")).with_context(what)?;
        symlink(work, links.join("w")).with_context(what)?;
        options += ",upperdir=u,workdir=w,volatile";
    }
    options += if in_user_namespace {
        ",userxattr"
    } else {
        ",redirect_dir=off,metacopy=off,index=off"
    };
    let target = links.join("m");
    std::fs::create_dir(&target).with_context(what)?;
    let before = std::env::current_dir().with_context(what)?;
    std::env::set_current_dir(&links).with_context(what)?;
    let mounted = mount_overlay(&target, &options);
    std::env::set_current_dir(before).with_context(what)?;
    mounted.with_context(what)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, &target, flags).with_context(what)
}

/// A small tmpfs over a folder that every machine has; this mount namespace is private.
fn mount_scratch() -> std::io::Result<PathBuf> {
    let place = c"/tmp";
    // SAFETY: all pointers are C strings that live until the call returns.
    check(unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            place.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            std::ptr::null(),
        )
    })?;
    Ok(PathBuf::from("/tmp"))
}

fn mount_overlay(target: &Path, options: &str) -> std::io::Result<()> {
    let (target, options) = (
        CString::new(target.as_os_str().as_bytes())?,
        CString::new(options)?,
    );
    let kind = c"overlay".as_ptr();
    // SAFETY: all pointers are C strings that live until the call returns.
    check(unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) })
}
