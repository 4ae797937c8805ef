//! System calls and the binary interfaces that their numbers belong to.

/// A name, and the numbers on x86_64, i386, aarch64, arm.
pub(super) type Call = (&'static str, [u32; 4]);

/// Where an interface doesn't have a call.
pub(super) const NO: u32 = u32::MAX;

/// A binary interface: which numbers a process uses (`AUDIT_ARCH_*` in linux/audit.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// As `seccomp_data.arch` names it.
    pub(super) arch: u32,
    column: usize,
}

/// Those of this processor.
pub(super) const INTERFACES: &[Interface] = if cfg!(target_arch = "aarch64") {
    &[AARCH64, ARM]
} else {
    &[X86_64, I386]
};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the numbers of this processor's system calls are not known");

pub(super) const X86_64: Interface = Interface {
    arch: 0xc000_003e,
    column: 0,
};
pub(super) const I386: Interface = Interface {
    arch: 0x4000_0003,
    column: 1,
};
pub(super) const AARCH64: Interface = Interface {
    arch: 0xc000_00b7,
    column: 2,
};
pub(super) const ARM: Interface = Interface {
    arch: 0x4000_0028,
    column: 3,
};

impl Interface {
    /// The number of a call; `None` where the interface doesn't have it.
    pub(super) fn number(self, call: &Call) -> Option<u32> {
        Some(call.1[self.column]).filter(|number| *number != NO)
    }
}
