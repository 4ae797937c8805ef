//! System call filters.
//!
//! The default one forbids (EPERM) what Docker's default profile forbids to a process without
//! further capabilities: everything that changes mounts, namespaces, modules, time, keys, or
//! looks into other processes' kernel state. Calls newer than this list answer ENOSYS, so that
//! programs fall back to ones that are known.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[libc::c_long] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[libc::c_long] = &[];

/// The first call number that this list knows nothing of (Linux 6.15). The calls of the x32 ABI
/// are above it, too: bit 30 is set in their numbers, which no list of numbers would find.
const FIRST_UNKNOWN: u32 = 467;

/// Calls that change owners and users, which single-id namespaces can't carry out.
const FAKED: &[libc::c_long] = &[
    libc::SYS_capset,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
];
#[cfg(target_arch = "x86_64")]
const FAKED_HERE: &[libc::c_long] = &[libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const FAKED_HERE: &[libc::c_long] = &[];

/// CLONE_NEW* of `clone(2)`: namespaces.
const NAMESPACES: u64 = 0x7e02_0000;

/// Installs the default filter; needs CAP_SYS_ADMIN.
pub(crate) fn confine() -> io::Result<()> {
    apply_without_giving_up_privileges(&unknown())?;
    install([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)?;
    let mut forbidden: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN
        .iter()
        .chain(FORBIDDEN_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    forbidden.insert(libc::SYS_clone, namespace_flags()?);
    forbidden.insert(libc::SYS_socket, machine_sockets()?);
    install(forbidden, libc::EPERM)
}

/// Makes calls that change owners and users succeed without doing anything.
pub(crate) fn fake_ids() -> io::Result<()> {
    let calls = FAKED
        .iter()
        .chain(FAKED_HERE)
        .map(|call| (*call, Vec::new()));
    install(calls.collect(), 0)
}

/// Calls from a number on answer ENOSYS.
fn unknown() -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
            0,
            1,
            FIRST_UNKNOWN,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, enosys),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Sockets between a virtual machine and its host, which no namespace holds back.
fn machine_sockets() -> io::Result<Vec<SeccompRule>> {
    let family = u64::from(libc::AF_VSOCK.cast_unsigned());
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)
        .map_err(io::Error::other)?;
    let rule = SeccompRule::new(vec![condition]).map_err(io::Error::other)?;
    Ok(vec![rule])
}

/// One rule for each namespace flag: a condition compares masked bits with one value only.
fn namespace_flags() -> io::Result<Vec<SeccompRule>> {
    let flags = (0..64)
        .map(|bit| 1u64 << bit)
        .filter(|flag| NAMESPACES & flag != 0);
    let rule = |flag| {
        let operator = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, flag)?;
        SeccompRule::new(vec![condition])
    };
    flags
        .map(|flag| rule(flag).map_err(io::Error::other))
        .collect()
}

fn install(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> io::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let errno = u32::try_from(errno).unwrap_or(0);
    let (other, these) = (SeccompAction::Allow, SeccompAction::Errno(errno));
    let filter = SeccompFilter::new(calls, other, these, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    apply_without_giving_up_privileges(&program)
}

/// `apply_filter` sets no_new_privs, which would break setuid programs such as `su` and `sudo`
/// in steps; with CAP_SYS_ADMIN the kernel doesn't ask for it.
fn apply_without_giving_up_privileges(program: &BpfProgram) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let program_pointer = libc::sock_fprog {
        len: length,
        filter,
    };
    let operation = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program_pointer` names `length` instructions that live until the call returns, and
    // seccompiler's instruction has the layout of the kernel's sock_filter.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, operation, 0, &raw const program_pointer) };
    if done == 0 {
        return Ok(());
    }
    apply_filter(program).map_err(io::Error::other)
}
