//! What may be done through mounts: attributes of detached ones, and propagation.

use std::os::fd::OwnedFd;

use crate::system_error::check;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a detached mount, and all below it, read-only.
pub(crate) fn make_read_only(mount: &OwnedFd) -> std::io::Result<()> {
    restrict(mount, libc::MOUNT_ATTR_RDONLY)
}

/// Makes device nodes in a mount, and in all below it, mere names: a step may make them (there is
/// no control group that would forbid to open them), and a layer may bring them.
pub(crate) fn without_devices(mount: &OwnedFd) -> std::io::Result<()> {
    restrict(mount, libc::MOUNT_ATTR_NODEV)
}

/// Sets attributes of a detached mount and of all below it (`MOUNT_ATTR_*`).
pub(crate) fn restrict(mount: &OwnedFd, set: u64) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let attributes = MountAttr {
        set,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the structure has the kernel's layout and the size given, and lives until the call
    // returns; the path is a C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    check(if done == 0 { 0 } else { -1 })
}

/// Keeps this namespace's mounts from all others.
pub(crate) fn make_private() -> std::io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let null = std::ptr::null();
    // SAFETY: the target is a C string; the other arguments may be null when only flags change.
    check(unsafe { libc::mount(null, c"/".as_ptr(), null, flags, null.cast()) })
}
