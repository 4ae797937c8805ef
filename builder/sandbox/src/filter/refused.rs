//! The system calls that a step may make with a capability only, or never, as in Docker's default
//! profile. They answer EPERM; what is in no list answers ENOSYS, so that programs fall back.

use super::call::{Call, NO};

const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_MODULE: u64 = 1 << 16;
const SYS_RAWIO: u64 = 1 << 17;
const SYS_CHROOT: u64 = 1 << 18;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_PACCT: u64 = 1 << 20;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;
const SYS_NICE: u64 = 1 << 23;
const SYS_TIME: u64 = 1 << 25;
const SYS_TTY_CONFIG: u64 = 1 << 26;
const SYSLOG: u64 = 1 << 34;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
/// No capability allows it.
const NEVER: u64 = 0;

/// Calls, and the capabilities of which one is enough. Numbers on x86_64, i386, aarch64, arm.
pub(super) const REFUSED: &[(Call, u64)] = &[
    (("acct", [163, 51, 89, 51]), SYS_PACCT),
    (("add_key", [248, 286, 217, 309]), NEVER),
    (("afs_syscall", [183, 137, NO, NO]), NEVER),
    (("bdflush", [NO, 134, NO, 134]), NEVER),
    (("bpf", [321, 357, 280, 386]), SYS_ADMIN | BPF),
    (("break", [NO, 17, NO, NO]), NEVER),
    (("chroot", [161, 61, 51, 61]), SYS_CHROOT),
    (("clock_settime", [227, 264, 112, 262]), SYS_TIME),
    (("clock_settime64", [NO, 404, NO, 404]), SYS_TIME),
    (("create_module", [174, 127, NO, NO]), NEVER),
    (("delete_module", [176, 129, 106, 129]), SYS_MODULE),
    (("fanotify_init", [300, 338, 262, 367]), SYS_ADMIN),
    (("finit_module", [313, 350, 273, 379]), SYS_MODULE),
    (("fsconfig", [431, 431, 431, 431]), SYS_ADMIN),
    (("fsmount", [432, 432, 432, 432]), SYS_ADMIN),
    (("fsopen", [430, 430, 430, 430]), SYS_ADMIN),
    (("fspick", [433, 433, 433, 433]), SYS_ADMIN),
    (("ftime", [NO, 35, NO, NO]), NEVER),
    (("get_kernel_syms", [177, 130, NO, NO]), NEVER),
    (("get_mempolicy", [239, 275, 236, 320]), SYS_NICE),
    (("getpmsg", [181, 188, NO, NO]), NEVER),
    (("gtty", [NO, 32, NO, NO]), NEVER),
    (("idle", [NO, 112, NO, NO]), NEVER),
    (("init_module", [175, 128, 105, 128]), SYS_MODULE),
    (("io_uring_enter", [426, 426, 426, 426]), NEVER),
    (("io_uring_register", [427, 427, 427, 427]), NEVER),
    (("io_uring_setup", [425, 425, 425, 425]), NEVER),
    (("ioperm", [173, 101, NO, NO]), SYS_RAWIO),
    (("iopl", [172, 110, NO, NO]), SYS_RAWIO),
    (("kcmp", [312, 349, 272, 378]), SYS_PTRACE),
    (("kexec_file_load", [320, NO, 294, 401]), NEVER),
    (("kexec_load", [246, 283, 104, 347]), NEVER),
    (("keyctl", [250, 288, 219, 311]), NEVER),
    (("lock", [NO, 53, NO, NO]), NEVER),
    (("lookup_dcookie", [212, 253, 18, 249]), SYS_ADMIN),
    (("lsm_get_self_attr", [459, 459, 459, 459]), SYS_ADMIN),
    (("lsm_list_modules", [461, 461, 461, 461]), SYS_ADMIN),
    (("lsm_set_self_attr", [460, 460, 460, 460]), SYS_ADMIN),
    (("mbind", [237, 274, 235, 319]), SYS_NICE),
    (("migrate_pages", [256, 294, 238, 400]), NEVER),
    (("mount", [165, 21, 40, 21]), SYS_ADMIN),
    (("mount_setattr", [442, 442, 442, 442]), SYS_ADMIN),
    (("move_mount", [429, 429, 429, 429]), SYS_ADMIN),
    (("move_pages", [279, 317, 239, 344]), NEVER),
    (("mpx", [NO, 56, NO, NO]), NEVER),
    (("nfsservctl", [180, 169, 42, 169]), NEVER),
    (("nice", [NO, 34, NO, 34]), NEVER),
    (("oldfstat", [NO, 28, NO, NO]), NEVER),
    (("oldlstat", [NO, 84, NO, NO]), NEVER),
    (("oldolduname", [NO, 59, NO, NO]), NEVER),
    (("oldstat", [NO, 18, NO, NO]), NEVER),
    (("olduname", [NO, 109, NO, NO]), NEVER),
    (("open_by_handle_at", [304, 342, 265, 371]), DAC_READ_SEARCH),
    (("open_tree", [428, 428, 428, 428]), SYS_ADMIN),
    (("pciconfig_iobase", [NO, NO, NO, 271]), NEVER),
    (("pciconfig_read", [NO, NO, NO, 272]), NEVER),
    (("pciconfig_write", [NO, NO, NO, 273]), NEVER),
    (
        ("perf_event_open", [298, 336, 241, 364]),
        SYS_ADMIN | PERFMON,
    ),
    (("pidfd_getfd", [438, 438, 438, 438]), SYS_PTRACE),
    (("pivot_root", [155, 217, 41, 218]), NEVER),
    (("process_madvise", [440, 440, 440, 440]), SYS_PTRACE),
    (("prof", [NO, 44, NO, NO]), NEVER),
    (("profil", [NO, 98, NO, NO]), NEVER),
    (("putpmsg", [182, 189, NO, NO]), NEVER),
    (("query_module", [178, 167, NO, NO]), NEVER),
    (("quotactl", [179, 131, 60, 131]), SYS_ADMIN),
    (("quotactl_fd", [443, 443, 443, 443]), SYS_ADMIN),
    (("readdir", [NO, 89, NO, NO]), NEVER),
    (("reboot", [169, 88, 142, 88]), SYS_BOOT),
    (("request_key", [249, 287, 218, 310]), NEVER),
    (("security", [185, NO, NO, NO]), NEVER),
    (("set_mempolicy", [238, 276, 237, 321]), SYS_NICE),
    (("set_mempolicy_home_node", [450, 450, 450, 450]), SYS_NICE),
    (("setdomainname", [171, 121, 162, 121]), SYS_ADMIN),
    (("sethostname", [170, 74, 161, 74]), SYS_ADMIN),
    (("setns", [308, 346, 268, 375]), SYS_ADMIN),
    (("settimeofday", [164, 79, 170, 79]), SYS_TIME),
    (("sgetmask", [NO, 68, NO, NO]), NEVER),
    (("sigaction", [NO, 67, NO, 67]), NEVER),
    (("signal", [NO, 48, NO, NO]), NEVER),
    (("sigpending", [NO, 73, NO, 73]), NEVER),
    (("sigsuspend", [NO, 72, NO, 72]), NEVER),
    (("ssetmask", [NO, 69, NO, NO]), NEVER),
    (("stime", [NO, 25, NO, NO]), SYS_TIME),
    (("stty", [NO, 31, NO, NO]), NEVER),
    (("swapoff", [168, 115, 225, 115]), NEVER),
    (("swapon", [167, 87, 224, 87]), NEVER),
    (("_sysctl", [156, 149, NO, 149]), NEVER),
    (("sysfs", [139, 135, NO, 135]), NEVER),
    (("syslog", [103, 103, 116, 103]), SYS_ADMIN | SYSLOG),
    (("tuxcall", [184, NO, NO, NO]), NEVER),
    (("ulimit", [NO, 58, NO, NO]), NEVER),
    (("umount", [NO, 22, NO, NO]), SYS_ADMIN),
    (("umount2", [166, 52, 39, 52]), SYS_ADMIN),
    (("unshare", [272, 310, 97, 337]), SYS_ADMIN),
    (("uselib", [134, 86, NO, 86]), NEVER),
    (("userfaultfd", [323, 374, 282, 388]), NEVER),
    (("ustat", [136, 62, NO, 62]), NEVER),
    (("vhangup", [153, 111, 58, 111]), SYS_TTY_CONFIG),
    (("vm86", [NO, 166, NO, NO]), NEVER),
    (("vm86old", [NO, 113, NO, NO]), NEVER),
    (("vserver", [236, 273, NO, 313]), NEVER),
];
