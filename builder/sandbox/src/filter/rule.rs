//! What becomes of a system call: Docker's default profile, by capability.

use std::collections::BTreeMap;

use super::allowed::ALLOWED;
use super::call::{Call, Interface};
use super::refused::REFUSED;
use crate::OwnerCalls;
use crate::capability::Capabilities;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Allow,
    /// Returns this error; 0: seems to succeed.
    Answer(i32),
    /// Seems to succeed when so many arguments, from this one on, are root's id or none (-1); else
    /// whoever listens is told, and the caller waits.
    Ids {
        first: u8,
        count: u8,
    },
    /// Refused for AF_ALG and AF_VSOCK: no namespace holds them back.
    Socket,
    /// Allowed for Linux, with and without UNAME26, for a 32-bit machine's name, and to ask.
    Personality,
    /// Refused when it makes a namespace.
    Clone,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// What it may do besides what anybody may; `None`: everything.
    pub(crate) capabilities: Option<Capabilities>,
    /// What becomes of calls that change owners and users.
    pub(crate) owner_calls: OwnerCalls,
    /// Whether it may look into other processes.
    pub(crate) tracing: bool,
}

const CLONE: Call = ("clone", [56, 120, 220, 120]);
/// Its arguments lie in memory, where a filter can't look.
const CLONE3: Call = ("clone3", [435, 435, 435, 435]);
const SOCKET: Call = ("socket", [41, 359, 198, 281]);
const PERSONALITY: Call = ("personality", [135, 136, 92, 136]);

/// Calls that change owners and users, which namespaces with a single id can't carry out.
const FAKED: &[&str] = &[
    "capset",
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

/// Which arguments of a faked call are ids: the first, and how many. Of `setgroups` it is how many
/// groups there are: none is what root has.
fn ids_of(name: &str) -> Option<(u8, u8)> {
    match name.trim_end_matches("32") {
        "chown" | "fchown" | "lchown" => Some((1, 2)),
        "fchownat" => Some((2, 2)),
        "setregid" | "setreuid" => Some((0, 2)),
        "setresgid" | "setresuid" => Some((0, 3)),
        "setfsgid" | "setfsuid" | "setgid" | "setgroups" | "setuid" => Some((0, 1)),
        _ => None,
    }
}

/// Calls that look into other processes, and need no capability for one's own.
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];

impl Policy {
    /// What becomes of each call that an interface has; all others are [`Policy::otherwise`].
    pub(super) fn rules(self, interface: Interface) -> BTreeMap<u32, Rule> {
        let mut rules = BTreeMap::new();
        let mut put = |call: &Call, rule| {
            if let Some(number) = interface.number(call) {
                rules.insert(number, rule);
            }
        };
        for call in ALLOWED {
            put(call, self.of_allowed(call.0));
        }
        let Some(capabilities) = self.capabilities else {
            return rules;
        };
        for (call, needed) in REFUSED {
            let allowed = capabilities.has_one_of(*needed);
            put(
                call,
                if allowed {
                    Rule::Allow
                } else {
                    Rule::Answer(libc::EPERM)
                },
            );
        }
        let admin = capabilities.has_one_of(SYS_ADMIN);
        put(&CLONE, if admin { Rule::Allow } else { Rule::Clone });
        put(
            &CLONE3,
            if admin {
                Rule::Allow
            } else {
                Rule::Answer(libc::ENOSYS)
            },
        );
        put(&SOCKET, Rule::Socket);
        put(&PERSONALITY, Rule::Personality);
        rules
    }

    fn of_allowed(self, name: &str) -> Rule {
        match name {
            name if self.fakes_owners() && FAKED.contains(&name) => match ids_of(name) {
                Some((first, count)) if self.owner_calls == OwnerCalls::Refused => {
                    Rule::Ids { first, count }
                }
                _ => Rule::Answer(0),
            },
            name if !self.tracing && TRACING.contains(&name) => Rule::Answer(libc::EPERM),
            _ => Rule::Allow,
        }
    }

    /// What becomes of calls that are in no list: they are newer than it, or of the x32 interface.
    pub(super) fn otherwise(self) -> Rule {
        match self.capabilities {
            Some(_) => Rule::Answer(libc::ENOSYS),
            None => Rule::Allow,
        }
    }

    /// Whether anything is held back at all.
    pub(super) fn is_needed(self) -> bool {
        self.capabilities.is_some() || self.fakes_owners() || !self.tracing
    }

    fn fakes_owners(self) -> bool {
        self.owner_calls != OwnerCalls::Real
    }
}

const SYS_ADMIN: u64 = 1 << 21;
