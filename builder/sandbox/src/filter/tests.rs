use std::collections::BTreeMap;

use super::allowed::ALLOWED;
use super::call::{AARCH64, ARM, Call, I386, INTERFACES, Interface, X86_64};
use super::program::program;
use super::refused::REFUSED;
use super::rule::Policy;
use crate::OwnerCalls;
use crate::capability::Capabilities;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn refuse(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

const DEFAULT: Policy = Policy {
    capabilities: Some(Capabilities::DEFAULT),
    owner_calls: OwnerCalls::Real,
    tracing: true,
};

/// Runs a program as the kernel does; also how many instructions that took.
fn run(program: &[libc::sock_filter], arch: u32, number: u32, argument: u64) -> (u32, usize) {
    run_with(program, arch, number, &[argument])
}

fn run_with(
    program: &[libc::sock_filter],
    arch: u32,
    number: u32,
    arguments: &[u64],
) -> (u32, usize) {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16.. if offset.is_multiple_of(8) => {
            let argument = arguments[(offset as usize - 16) / 8];
            (argument & 0xffff_ffff) as u32
        }
        other => panic!("nothing lies at {other}"),
    };
    let (mut at, mut value) = (0, 0);
    for steps in 1.. {
        let this = program[at];
        let branch = |taken: bool| usize::from(if taken { this.jt } else { this.jf });
        at += 1;
        match u32::from(this.code) {
            0x20 => value = word(this.k),
            0x05 => at += this.k as usize,
            0x15 => at += branch(value == this.k),
            0x35 => at += branch(value >= this.k),
            0x45 => at += branch(value & this.k != 0),
            0x06 => return (this.k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
    unreachable!("a program ends")
}

/// `seccomp(2)` in this machine's first interface, or its second.
fn ask(policy: Policy, interface: Interface, number: u32, argument: u64) -> u32 {
    run(&program(policy), interface.arch, number, argument).0
}

fn named(name: &str) -> &'static Call {
    let mut all = ALLOWED.iter().chain(REFUSED.iter().map(|(call, _)| call));
    all.find(|call| call.0 == name).unwrap()
}

#[test]
fn no_number_is_listed_twice() {
    for interface in [X86_64, I386, AARCH64, ARM] {
        let mut seen = BTreeMap::new();
        for call in ALLOWED.iter().chain(REFUSED.iter().map(|(call, _)| call)) {
            let Some(number) = interface.number(call) else {
                continue;
            };
            assert_eq!(seen.insert(number, call.0), None, "{} {number}", call.0);
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }
}

/// The C library's own numbers.
#[test]
fn numbers_are_the_kernels() {
    for (name, number) in [
        ("read", libc::SYS_read),
        ("openat2", libc::SYS_openat2),
        ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
        ("mount", libc::SYS_mount),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("process_madvise", libc::SYS_process_madvise),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("setns", libc::SYS_setns),
        ("io_uring_setup", libc::SYS_io_uring_setup),
    ] {
        let known = INTERFACES[0].number(named(name)).unwrap();
        assert_eq!(i64::from(known), number, "{name}");
    }
}

#[test]
fn every_listed_call_has_its_answer() {
    for interface in INTERFACES {
        for call in ALLOWED {
            if let Some(number) = interface.number(call) {
                assert_eq!(ask(DEFAULT, *interface, number, 0), ALLOW, "{}", call.0);
            }
        }
        for (call, needed) in REFUSED {
            let want = match Capabilities::DEFAULT.has_one_of(*needed) {
                true => ALLOW,
                false => refuse(libc::EPERM),
            };
            if let Some(number) = interface.number(call) {
                assert_eq!(ask(DEFAULT, *interface, number, 0), want, "{}", call.0);
            }
        }
    }
}

#[test]
fn what_is_in_no_list_is_unknown() {
    let unknown = refuse(libc::ENOSYS);
    for interface in INTERFACES {
        for number in [467, 500, 0x4000_0000, 0x4000_0000 + 165, u32::MAX] {
            assert_eq!(ask(DEFAULT, *interface, number, 0), unknown, "{number:#x}");
        }
    }
    let (program, other) = (program(DEFAULT), 0xc000_0015);
    assert_eq!(run(&program, other, 0, 0).0, unknown);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn arguments_are_looked_at() {
    let eperm = refuse(libc::EPERM);
    let cases: &[(u32, u32, u64, u32)] = &[
        (41, 359, 2, ALLOW),
        (41, 359, 38, eperm),
        (41, 359, 39, ALLOW),
        (41, 359, 40, eperm),
        // The kernel takes the family as an int.
        (41, 359, 0x1_0000_0028, eperm),
        (135, 136, 0, ALLOW),
        (135, 136, 8, ALLOW),
        (135, 136, 0x2_0000, ALLOW),
        (135, 136, 0x2_0008, ALLOW),
        (135, 136, 0xffff_ffff, ALLOW),
        (135, 136, 0x0004_0000, eperm),
        (135, 136, 0x0040_0000, eperm),
        (56, 120, 0x0120_0011, ALLOW),
        (56, 120, 0x1000_0000, eperm),
        (56, 120, 0x0002_0000, eperm),
        (56, 120, 0x0200_0000, eperm),
        (435, 435, 0, refuse(libc::ENOSYS)),
    ];
    for (wide, narrow, argument, want) in cases {
        for (interface, number) in [(X86_64, *wide), (I386, *narrow)] {
            let answer = ask(DEFAULT, interface, number, *argument);
            assert_eq!(answer, *want, "{number} {argument:#x}");
        }
    }
}

#[test]
fn capabilities_open_what_needs_them() {
    let interface = INTERFACES[0];
    let mount = interface.number(named("mount")).unwrap();
    let policy = Policy {
        capabilities: Some(Capabilities::ALL),
        ..DEFAULT
    };
    assert_eq!(ask(policy, interface, mount, 0), ALLOW);
    assert_eq!(ask(policy, interface, 435, 0), ALLOW, "clone3");
    let never = interface.number(named("kexec_load")).unwrap();
    assert_eq!(ask(policy, interface, never, 0), refuse(libc::EPERM));
}

#[test]
fn owners_seem_to_change() {
    for capabilities in [Some(Capabilities::DEFAULT), None] {
        let policy = Policy {
            capabilities,
            owner_calls: OwnerCalls::Faked,
            tracing: true,
        };
        for interface in INTERFACES {
            for name in ["fchown", "fchownat", "setuid", "setgroups", "capset"] {
                let number = interface.number(named(name)).unwrap();
                assert_eq!(ask(policy, *interface, number, 0), refuse(0), "{name}");
            }
        }
        let unknown = ask(policy, INTERFACES[0], 600, 0);
        assert_eq!(unknown == ALLOW, capabilities.is_none());
    }
}

#[test]
fn other_ids_than_roots_are_told_of() {
    let policy = Policy {
        owner_calls: OwnerCalls::Refused,
        ..DEFAULT
    };
    let (none, told) = (u64::from(u32::MAX), libc::SECCOMP_RET_USER_NOTIF);
    for (name, arguments, answer) in [
        ("fchown", &[9, 0, 0][..], refuse(0)),
        ("fchown", &[9, none, 0], refuse(0)),
        ("fchown", &[9, u64::MAX, none], refuse(0)),
        ("fchown", &[9, 1, 0], told),
        ("fchown", &[9, 0, 1], told),
        ("fchownat", &[9, 9, 0, none, 0], refuse(0)),
        ("fchownat", &[9, 9, none, 33, 0], told),
        ("setuid", &[0], refuse(0)),
        ("setuid", &[33], told),
        ("setresuid", &[0, none, 0], refuse(0)),
        ("setresuid", &[0, 0, 33], told),
        ("setgroups", &[0, 9], refuse(0)),
        ("setgroups", &[2, 9], told),
        ("capset", &[9, 9], refuse(0)),
    ] {
        for interface in INTERFACES {
            let number = interface.number(named(name)).unwrap();
            let ran = run_with(&program(policy), interface.arch, number, arguments);
            assert_eq!(ran.0, answer, "{name} {arguments:?}");
        }
    }
}

#[test]
fn without_tracing_other_processes_are_not_looked_into() {
    let policy = Policy {
        tracing: false,
        ..DEFAULT
    };
    for name in [
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "kcmp",
        "pidfd_getfd",
    ] {
        let number = INTERFACES[0].number(named(name)).unwrap();
        assert_eq!(
            ask(policy, INTERFACES[0], number, 0),
            refuse(libc::EPERM),
            "{name}"
        );
    }
}

/// The kernel runs the program once for each number when it is installed.
#[test]
fn programs_are_short() {
    let program = program(DEFAULT);
    assert!(program.len() < 1000, "{}", program.len());
    for interface in INTERFACES {
        for number in 0..500 {
            let (_, steps) = run(&program, interface.arch, number, 0);
            assert!(steps < 30, "{number}: {steps}");
        }
    }
}
