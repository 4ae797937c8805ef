//! Why a process could not be run.

use std::io;

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
    /// The helper ended without a report.
    #[error(
        "the sandbox helper ended unexpectedly ({0}); this is a bug in kiln unless something killed it"
    )]
    Vanished(String),
    /// The user namespace that a build without root needs can't be made.
    #[error(
        "a user namespace cannot be made: {0}; kiln needs one to build without root. Allow it with \
         'sysctl -w user.max_user_namespaces=10000' (and, on Ubuntu, 'sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0'), or run kiln as root"
    )]
    NoUserNamespace(io::Error),
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
