//! Why a process could not be run.

use std::io;

use crate::cgroup::NoCgroups;
use crate::refusal::Refusal;

/// A failure to run a process; not a process that ran and failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The helper can't be started.
    #[error("cannot start the sandbox helper {program}: {source}")]
    Helper {
        /// The program that was to be executed again.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The helper could not prepare the sandbox.
    #[error("cannot {what}: {reason}{}", advice(.what, *.errno))]
    Setup {
        /// What was tried.
        what: String,
        /// What the system said.
        reason: String,
        /// The system's error number; 0 when there is none.
        errno: i32,
    },
    /// A process outside of the sandbox was given a descriptor, and writes.
    #[error(
        "all processes of the step have ended, but another process has one of its files open for \
         writing, so its result can't be kept; a descriptor was passed through a socket: close it \
         before the step ends"
    )]
    StillWritten,
    /// The helper ended without a report.
    #[error(
        "the sandbox helper ended unexpectedly ({0}); this is a bug in kiln unless something killed it"
    )]
    Vanished(String),
    /// A step needs namespaces, and the machine refuses them.
    #[error("steps can't be run here: {0}")]
    NoNamespaces(Refusal),
    /// A user namespace is needed, and this process has threads.
    #[error(
        "this process has several threads, so it can't move into the user namespace that an \
         ordinary user's builds need: it has to do so before it starts them"
    )]
    HasThreads,
    /// A chroot is wanted, and can't be had.
    #[error(
        "steps can't be run in a chroot here: that needs root with the capability CAP_SYS_CHROOT; \
         in Kubernetes set runAsUser: 0, and add SYS_CHROOT where capabilities are dropped"
    )]
    NoChroot,
    /// An image can't be mounted, for nobody would see it.
    #[error("an image can't be mounted here: {0}")]
    NoMounts(&'static str),
    /// A step can't be limited as the user wants.
    #[error(transparent)]
    Cgroup(#[from] NoCgroups),
    /// Talking to the helper failed.
    #[error("cannot talk to the sandbox helper: {0}")]
    Channel(#[from] io::Error),
}

fn advice(what: &str, errno: i32) -> &'static str {
    match errno {
        libc::EPERM if what.contains("namespace") => {
            "; 'kiln doctor' says what this machine allows"
        }
        libc::ENOSPC if what.contains("namespace") => {
            "; raise the limits below /proc/sys/user, such as max_mnt_namespaces"
        }
        _ => "",
    }
}
