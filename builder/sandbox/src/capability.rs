//! Capabilities (`capabilities(7)`): the set that container runtimes give by default.

use std::io;

use serde::{Deserialize, Serialize};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP: what Docker gives by default.
const DEFAULT: u64 = 0xa804_25fb;

/// A capability that kiln asks for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Capability {
    Chown = 0,
    SetUid = 7,
    SysChroot = 18,
    SysAdmin = 21,
}

/// A set of capabilities, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    pub(crate) const DEFAULT: Self = Self(DEFAULT);
    pub(crate) const ALL: Self = Self(u64::MAX);
    pub(crate) const NONE: Self = Self(0);

    /// What this process may use.
    pub(crate) fn permitted() -> io::Result<Self> {
        permitted().map(Self)
    }

    pub(crate) fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }

    pub(crate) fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u32))
    }

    /// Whether one of `wanted`, a bit each, is in the set.
    pub(crate) fn has_one_of(self, wanted: u64) -> bool {
        self.0 & wanted != 0
    }

    /// Limits this process, and all it executes, to the set. Sets that the kernel doesn't know
    /// are passed over. In user namespaces these are capabilities over that namespace only.
    pub(crate) fn limit(self) -> io::Result<()> {
        for number in 0..64 {
            if self.0 & (1 << number) == 0 && !drop_from_bounding_set(number)? {
                break;
            }
        }
        let known = permitted()?;
        set(known & self.0)
    }
}

/// Whether the kernel knows the capability.
fn drop_from_bounding_set(number: u32) -> io::Result<bool> {
    // SAFETY: prctl with PR_CAPBSET_READ takes integers only.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) } {
        // Without CAP_SETPCAP nothing can be dropped, and a container may have dropped it already.
        0 => return Ok(true),
        1 => {}
        _ => return Ok(false),
    }
    // SAFETY: prctl with PR_CAPBSET_DROP takes integers only.
    match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            error => Err(error),
        },
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn permitted() -> io::Result<u64> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: the header says version 3, for which the kernel writes exactly two Data.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    check(done)?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

fn set(bits: u64) -> io::Result<()> {
    let halves = [bits & 0xffff_ffff, bits >> 32];
    let data = halves.map(|half| {
        let half = u32::try_from(half).unwrap_or(u32::MAX);
        Data {
            effective: half,
            permitted: half,
            inheritable: 0,
        }
    });
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: the header says version 3, for which the kernel reads exactly two Data.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
