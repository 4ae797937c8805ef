//! Mounts overlayfs.
//!
//! By `fsconfig("lowerdir+")`, one layer a call (Linux 6.8): the old option string ends at a page.
//! On older kernels by `mount(2)` from a directory of short links to the layers. Redirections,
//! metadata-only copies and the index are off: the upper directory must make sense by itself.
#![expect(
    clippy::disallowed_methods,
    reason = "names in a fresh tmpfs that only this process sees"
)]

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::fail::{Context as _, Failure, check};
use super::place;
use crate::Place;

/// Where an overlay's changes go, and its working directory.
pub(crate) type Upper<'a> = Option<(&'a Path, &'a Path)>;

/// A lower layer by a path that leads to it whatever is exchanged meanwhile.
struct Layer {
    path: PathBuf,
    /// What `path` leads to, where it isn't a path that only the caller can change.
    _held: Option<OwnedFd>,
}

impl Layer {
    fn open(place: &Place) -> rustix::io::Result<Self> {
        if place.inside.as_os_str().is_empty() {
            return Ok(Self {
                path: place.directory.clone(),
                _held: None,
            });
        }
        let held = place::open(place)?;
        Ok(Self {
            path: format!("/proc/self/fd/{}", held.as_raw_fd()).into(),
            _held: Some(held),
        })
    }
}

/// An overlay of `lowers` (lowest first), mounted nowhere yet.
pub(crate) fn open(
    lowers: &[Place],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> Result<OwnedFd, Failure> {
    let what = || format!("mount an overlay of {} layers", lowers.len());
    let opened: Vec<Layer> = lowers
        .iter()
        .map(Layer::open)
        .collect::<Result<_, _>>()
        .with_context(what)?;
    let paths: Vec<&Path> = opened.iter().map(|layer| layer.path.as_path()).collect();
    match open_new(&paths, upper, in_user_namespace) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            open_old(&paths, upper, in_user_namespace).with_context(what)
        }
        other => other.with_context(what),
    }
}

/// An overlay of a few `lowers` (lowest first), mounted nowhere yet, where this process shares its
/// mount namespace with others: nothing is mounted on the way.
pub(crate) fn open_in_place(
    lowers: &[&Path],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> rustix::io::Result<OwnedFd> {
    match open_new(lowers, upper, in_user_namespace) {
        Err(rustix::io::Errno::INVAL) => {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&context, "lowerdir", joined(lowers))?;
            finish(&context, upper, in_user_namespace)
        }
        other => other,
    }
}

/// The lower directories as one option, the uppermost first; its separators are escaped in names.
fn joined(lowers: &[&Path]) -> Vec<u8> {
    let mut option = Vec::new();
    for lower in lowers.iter().rev() {
        if !option.is_empty() {
            option.push(b':');
        }
        for byte in lower.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                option.push(b'\\');
            }
            option.push(*byte);
        }
    }
    option
}

fn open_new(
    lowers: &[&Path],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in lowers.iter().rev() {
        fsconfig_set_string(&context, "lowerdir+", *lower)?;
    }
    finish(&context, upper, in_user_namespace)
}

/// Sets all other options, and makes the mount.
fn finish(
    context: &OwnedFd,
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> rustix::io::Result<OwnedFd> {
    if let Some((upper, work)) = upper {
        fsconfig_set_string(context, "upperdir", upper)?;
        fsconfig_set_string(context, "workdir", work)?;
        fsconfig_set_flag(context, "volatile")?;
    }
    if in_user_namespace {
        fsconfig_set_flag(context, "userxattr")?;
    } else {
        for (name, value) in [
            ("redirect_dir", "off"),
            ("metacopy", "off"),
            ("index", "off"),
        ] {
            fsconfig_set_string(context, name, value)?;
        }
    }
    fsconfig_create(context)?;
    fsmount(
        context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

fn open_old(
    lowers: &[&Path],
    upper: Upper<'_>,
    in_user_namespace: bool,
) -> std::io::Result<OwnedFd> {
    let links = mount_scratch()?;
    let mut options = String::from("lowerdir=");
    for (number, lower) in lowers.iter().enumerate().rev() {
        symlink(lower, links.join(number.to_string()))?;
        _ = write!(options, "{number}{}", if number > 0 { ":" } else { "" });
    }
    if let Some((upper, work)) = upper {
        symlink(upper, links.join("u"))?;
        symlink(work, links.join("w"))?;
        options += ",upperdir=u,workdir=w,volatile";
    }
    options += if in_user_namespace {
        ",userxattr"
    } else {
        ",redirect_dir=off,metacopy=off,index=off"
    };
    let target = links.join("m");
    std::fs::create_dir(&target)?;
    let before = std::env::current_dir()?;
    std::env::set_current_dir(&links)?;
    let mounted = mount_overlay(&target, &options);
    std::env::set_current_dir(before)?;
    mounted?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(rustix::fs::CWD, &target, flags)?)
}

/// A small tmpfs over a directory that every machine has; this mount namespace is private.
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
