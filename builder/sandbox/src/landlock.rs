//! Confines a step with Landlock (`landlock(7)`): files below its root only, no abstract socket and
//! no signal to a process outside. Namespaces alone don't hold back a descriptor that somebody
//! else passes to a step: through it the step would open what lies around that descriptor's file.
//!
//! The network stays as it is: no access to it is handled.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Version 2 is the first that lets files move between directories.
const FIRST_USABLE: u32 = 2;
/// Version 6 is the first that scopes abstract sockets and signals.
const FIRST_SCOPED: u32 = 6;

/// The accesses of version 1: LANDLOCK_ACCESS_FS_EXECUTE to LANDLOCK_ACCESS_FS_MAKE_SYM.
const FILE_SYSTEM_1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// What a rule for a file that is no directory may name: EXECUTE, WRITE_FILE, READ_FILE.
const OF_FILES: u64 = 0b111 | TRUNCATE | IOCTL_DEV;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and LANDLOCK_SCOPE_SIGNAL.
const SCOPES: u64 = 0b11;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// How far the kernel can confine a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// Not at all.
    None,
    /// To files below its root.
    Files,
    /// To files below its root, and its own abstract sockets.
    FilesAndScopes,
}

/// What this kernel offers.
pub(crate) fn support() -> Support {
    match version() {
        FIRST_SCOPED.. => Support::FilesAndScopes,
        FIRST_USABLE.. => Support::Files,
        _ => Support::None,
    }
}

/// The version of Landlock's interface; 0 when the kernel has none, or it is switched off.
fn version() -> u32 {
    let nothing = std::ptr::null::<RulesetAttr>();
    // SAFETY: with this flag the kernel reads no attributes; it takes a null pointer and size 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// `struct landlock_ruleset_attr` up to version 6; older kernels take it when the rest is zero.
#[repr(C)]
struct RulesetAttr {
    file_system: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed: u64,
    parent: i32,
}

fn handled(version: u32) -> u64 {
    let mut all = FILE_SYSTEM_1 | REFER;
    if version >= 3 {
        all |= TRUNCATE;
    }
    if version >= 5 {
        all |= IOCTL_DEV;
    }
    all
}

/// Confines this process, and all it starts, to what lies below `root` and to the files `extra`.
/// Needs CAP_SYS_ADMIN over the user namespace: privileges of set-user-ID programs are not given up.
/// Does nothing where the kernel can't.
pub(crate) fn confine(root: BorrowedFd<'_>, extra: &[BorrowedFd<'_>]) -> io::Result<()> {
    let version = version();
    if version < FIRST_USABLE {
        return Ok(());
    }
    let handled = handled(version);
    let ruleset = create(handled, if version >= FIRST_SCOPED { SCOPES } else { 0 })?;
    allow(&ruleset, root, handled)?;
    for file in extra {
        allow(&ruleset, *file, handled & OF_FILES)?;
    }
    // SAFETY: takes a descriptor and flags.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .map(drop)
}

fn create(file_system: u64, scoped: u64) -> io::Result<OwnedFd> {
    let attributes = RulesetAttr {
        file_system,
        network: 0,
        scoped,
    };
    // SAFETY: the structure has the kernel's layout and the size given, and lives until the call
    // returns.
    let made = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<RulesetAttr>(),
            0,
        )
    })?;
    // SAFETY: the kernel has just made the descriptor for this process, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

fn allow(ruleset: &OwnedFd, file: BorrowedFd<'_>, allowed: u64) -> io::Result<()> {
    let rule = PathBeneathAttr {
        allowed,
        parent: file.as_raw_fd(),
    };
    // SAFETY: the rule has the kernel's layout for its type, and lives until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0,
        )
    })
    .map(drop)
}

fn check(result: libc::c_long) -> io::Result<i32> {
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
