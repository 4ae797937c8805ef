//! Rules as a program of the kernel's packet filter (`seccomp(2)`, linux/filter.h).
//!
//! For each binary interface a binary search over ranges of numbers: a step's program is checked by
//! the kernel for every number when it is installed, and run for every call whose answer depends on
//! its arguments.

use std::collections::BTreeMap;

use libc::sock_filter;

use super::call::{INTERFACES, Interface};
use super::rule::{Policy, Rule};

/// Offsets in `struct seccomp_data`; of an argument, its low half on a little-endian machine. The
/// kernel takes the arguments that are looked at as 32 bits, whatever the other half is.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// In bytes, from one argument to the next.
const ARGUMENT: u32 = 8;

const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u32 = 0x7e02_0000;

type Program = Vec<sock_filter>;

/// The whole program.
pub(super) fn program(policy: Policy) -> Program {
    let mut program = vec![load(ARCH)];
    for interface in INTERFACES {
        let block = interface_block(policy, *interface);
        program.push(jump(libc::BPF_JEQ, interface.arch, 1, 0));
        program.push(skip(block.len()));
        program.extend(block);
    }
    program.extend(leaf(policy.otherwise()));
    program
}

fn interface_block(policy: Policy, interface: Interface) -> Program {
    let ranges = ranges(&policy.rules(interface), policy.otherwise());
    let mut block = vec![load(NUMBER)];
    block.extend(search(&ranges));
    block
}

/// Rules of all numbers: each holds from its number up to the next.
fn ranges(rules: &BTreeMap<u32, Rule>, otherwise: Rule) -> Vec<(u32, Rule)> {
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    let mut add = |number, rule| match ranges.last_mut() {
        Some((_, last)) if *last == rule => {}
        Some((from, last)) if *from == number => *last = rule,
        _ => ranges.push((number, rule)),
    };
    add(0, otherwise);
    for (number, rule) in rules {
        add(*number, *rule);
        let next = number + 1;
        if !rules.contains_key(&next) {
            add(next, otherwise);
        }
    }
    ranges
}

fn search(ranges: &[(u32, Rule)]) -> Program {
    if let [(_, rule)] = ranges {
        return leaf(*rule);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low), search(high));
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![jump(libc::BPF_JGE, high[0].0, length, 0)],
        Err(_) => vec![jump(libc::BPF_JGE, high[0].0, 0, 1), skip(below.len())],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn leaf(rule: Rule) -> Program {
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let refuse = error(libc::EPERM);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Answer(errno) => vec![error(errno)],
        Rule::Ids { first, count } => {
            let mut program = Program::new();
            for left in (0..count).rev() {
                let argument = u32::from(first + count - 1 - left);
                program.extend([
                    load(FIRST_ARGUMENT + argument * ARGUMENT),
                    jump(libc::BPF_JEQ, 0, 1, 0),
                    // Over the arguments that are left, three instructions each, and the answer.
                    jump(libc::BPF_JEQ, u32::MAX, 0, 3 * left + 1),
                ]);
            }
            program.extend([error(0), answer(libc::SECCOMP_RET_USER_NOTIF)]);
            program
        }
        Rule::Socket => vec![
            load(FIRST_ARGUMENT),
            jump(libc::BPF_JEQ, AF_ALG, 2, 0),
            jump(libc::BPF_JEQ, AF_VSOCK, 1, 0),
            allow,
            refuse,
        ],
        Rule::Clone => vec![
            load(FIRST_ARGUMENT),
            jump(libc::BPF_JSET, NAMESPACES, 1, 0),
            allow,
            refuse,
        ],
        Rule::Personality => {
            let mut program = vec![load(FIRST_ARGUMENT)];
            for (left, value) in (1u8..=5).rev().zip(PERSONALITIES) {
                program.push(jump(libc::BPF_JEQ, value, left, 0));
            }
            program.extend([refuse, allow]);
            program
        }
    }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(comparison: u32, value: u32, when_true: u8, when_false: u8) -> sock_filter {
    let code = libc::BPF_JMP | comparison | libc::BPF_K;
    instruction(code, when_true, when_false, value)
}

fn skip(count: usize) -> sock_filter {
    // A program has 4096 instructions at the most.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, count)
}

fn error(errno: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // All codes have 16 bits.
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}
